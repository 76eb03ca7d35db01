"""What docs/asking.md shows is true of the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import execgraph
from execgraph.adapters.messages_api import Answer, MessagesServer, call, text
from execgraph.engine import events
from execgraph.engine.why import Fate
from execgraph.invalidation.impact import Impact

PAGE = (Path(execgraph.__file__).parent / "docs" / "asking.md").read_text(encoding="utf-8")


def brain(body: dict[str, Any]) -> Answer:
    if len(body["messages"]) == 1:
        return Answer([call("deploy", {"service": "checkout", "version": "2.4.1"})])
    return Answer([text("Deployed.")])


def test_the_example_says_what_a_change_costs_before_and_why_after(tmp_path: Path) -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    program = tmp_path / "example.py"
    program.write_text(example)
    with MessagesServer(brain) as server:
        run = subprocess.run(
            [sys.executable, "-W", "error", program],
            cwd=tmp_path,
            env={
                **os.environ,
                "ANTHROPIC_API_KEY": "local",
                "ANTHROPIC_BASE_URL": server.url,
                "NO_PROXY": "127.0.0.1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    [would] = re.findall(r"would cost (\d+) tokens", run.stdout)
    assert int(would) > 0
    assert f"did cost {would}" in lines
    assert f"ended: partial {would} tokens" in lines
    assert "decision claude-sonnet-5 asked" in lines
    assert "  because of acl:prod/deploy acl:prod/deploy $.groups" in lines
    assert lines[-1] == "0 of 2 runs asked no model"


def test_every_fate_field_and_event_is_told() -> None:
    told = {event.__name__ for event in events.Event.__args__}
    told |= {fate.value for fate in Fate} | (set(Impact.__slots__) - {"resources"})
    assert {name for name in told if f"`{name}`" not in PAGE} == set()
