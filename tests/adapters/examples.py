"""Running a page's example as a program of its own, its model a local server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
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
    # Each test has a port of its own, since some run at the same time.
    port = 20_000 + zlib.crc32(str(folder).encode()) % 10_000
    program.write_text(example.replace("port=8765", f"port={port}"))
    return _said([sys.executable, "-W", "error", str(program)], folder, environment)


def said_by_a_shell(commands: str, folder: Path, **environment: str) -> str:
    """What the command lines of a page print, run in ``folder``; all of them must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shell = ["bash", "-e", "-c", dedent(commands)]
    return _said(shell, folder, {**environment, "PATH": path})


def _said(command: list[str], folder: Path, environment: Mapping[str, str]) -> str:
    known = {name: it for name, it in os.environ.items() if not name.startswith("ANTHROPIC_")}
    run = subprocess.run(
        command,
        cwd=folder,
        env={**known, **environment, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout
