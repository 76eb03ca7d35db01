"""What it costs to import the package and to run the command, beside a bare interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .measure import Row, Setting, Side, ratio, side_by_side

__all__ = ["run"]

_BARE, _IMPORT = "python -c pass", "import execgraph"
_ENGINE, _HELP = "from execgraph import Engine", "execgraph --help"


async def run(setting: Setting) -> list[Row]:
    """Ratios of p50s; each sample is a process."""
    python = sys.executable
    command = str(Path(python).with_name("execgraph"))
    commands = {
        _BARE: [python, "-c", "pass"],
        _IMPORT: [python, "-c", _IMPORT],
        _ENGINE: [python, "-c", _ENGINE],
        _HELP: [command, "--help"],
    }
    working = {name: it for name, it in commands.items() if _works(it)}
    for name in commands.keys() - working.keys():
        setting.say.phase(f"{name!r} fails, so it is left out")
    sides = [_side(name, it) for name, it in working.items()]
    p50s = await side_by_side(setting, *sides, rounds=max(5, setting.rounds // 20))
    return [ratio("start of a process", p50s, name, _BARE) for name in working if name != _BARE]


def _works(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _side(name: str, command: list[str]) -> Side:
    async def call() -> None:
        subprocess.run(command, capture_output=True, check=True)  # noqa: ASYNC221

    return Side(name, call)
