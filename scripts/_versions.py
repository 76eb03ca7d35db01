"""Lists what is installed at another version than scripts/locks/development.txt has."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LOCK = Path(__file__).parent / "locks" / "development.txt"


def main() -> None:
    """Print one line for each."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        name, _, pinned = line.partition(" ;")[0].partition("==")
        if pinned and (found := _installed(name)) not in {None, pinned}:
            sys.stdout.write(f"  {name} {pinned} -> {found}\n")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
