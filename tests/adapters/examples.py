"""Running a page's example as a program of its own, its model a local server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from execgraph.adapters.messages_api import Answer, Brain, MessagesServer, call, text


def brain(body: dict[str, Any]) -> Answer:
    """Uses the tool once, then reports."""
    if len(body["messages"]) == 1:
        return Answer([call("deploy", {"service": "checkout", "version": "2.4.1"})])
    return Answer([text("Deployed.")])


def said_by_the_example_of(page: str, folder: Path, brain: Brain = brain) -> str:
    """What the only Python block of ``page`` prints, run in ``folder``; it must succeed."""
    with MessagesServer(brain) as server:
        return said_without_a_key(
            page, folder, ANTHROPIC_API_KEY="local", ANTHROPIC_BASE_URL=server.url
        )


def said_without_a_key(page: str, folder: Path, **environment: str) -> str:
    """The same, of an example that brings its model along, or asks none."""
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = folder / "example.py"
    program.write_text(example)
    known = {name: it for name, it in os.environ.items() if not name.startswith("ANTHROPIC_")}
    run = subprocess.run(
        [sys.executable, "-W", "error", program],
        cwd=folder,
        env={**known, **environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
