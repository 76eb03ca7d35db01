"""What docs/asking.md shows is true of the code."""

from __future__ import annotations

import re
from pathlib import Path

import execgraph
from execgraph.engine.outcome import events
from execgraph.engine.outcome.fate import Fate
from execgraph.invalidation.impact import Impact
from execgraph.tests.models import MODEL

from .examples import said_by_the_example_of

PAGE = (Path(execgraph.__file__).parent / "docs" / "asking.md").read_text(encoding="utf-8")


def test_the_example_says_what_a_change_costs_before_and_why_after(tmp_path: Path) -> None:
    said = said_by_the_example_of(PAGE, tmp_path)
    lines = said.splitlines()
    [would] = re.findall(r"would cost (\d+) tokens", said)
    assert int(would) > 0
    assert f"did cost {would}" in lines
    assert f"ended: partial {would} tokens" in lines
    assert f"decision {MODEL} asked" in lines
    assert "  because of acl:prod/deploy acl:prod/deploy $.groups" in lines
    assert "done on its word: ['deploy', 'deploy']" in lines
    assert lines[-1] == "0 of 2 runs asked no model"


def test_every_fate_field_and_event_is_told() -> None:
    told = {event.__name__ for event in events.Event.__args__}
    told |= {fate.value for fate in Fate} | (set(Impact.__slots__) - {"resources"})
    assert {name for name in told if f"`{name}`" not in PAGE} == set()
