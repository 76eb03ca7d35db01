"""What docs/programs.md shows is true of the code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import execgraph
from execgraph import Agent, Engine
from execgraph.adapters.messages_api import Answer, text

from .examples import said_by_the_example_of

PAGE = (Path(execgraph.__file__).parent / "docs" / "programs.md").read_text(encoding="utf-8")


def test_the_example_records_replays_and_asks_again(tmp_path: Path) -> None:
    said = said_by_the_example_of(PAGE, tmp_path, lambda _: Answer([text("refund")]))
    assert said.splitlines() == [
        "live refunded",
        "replay refunded 0",
        "live not refunded",
    ]


def test_what_a_run_can_be_told_is_what_agents_and_programs_take() -> None:
    told = set(re.findall(r"^\| `(\w+)=", PAGE, re.MULTILINE))
    of_agents = set(inspect.signature(Agent.execute).parameters) - {"self", "task"}
    assert told == of_agents & set(inspect.signature(Engine.run).parameters)
    assert of_agents - told == {"on_partial"}
