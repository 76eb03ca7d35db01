"""Where symbolic links lead: each entry that decides what a path is."""

from __future__ import annotations

import os

__all__ = ["trail"]

_MOST = 40  # links in a row, as in Linux


def trail(path: str) -> tuple[str, ...]:
    """The entries that following the link at ``path`` passes, as real paths: other links, those to
    directories among them, and at last what it leads to, there or not. Nothing if it is no link."""
    at = os.path.realpath(os.path.dirname(path))  # noqa: PTH120 - strings, see globs
    passed: list[str] = []
    parts = [os.path.basename(path)]  # noqa: PTH119
    while parts and len(passed) <= _MOST:
        part = parts.pop(0)
        entry = os.path.normpath(os.path.join(at, part))  # noqa: PTH118
        try:
            target = os.readlink(entry) if part not in ("", ".", "..") else None  # noqa: PTH115
        except OSError:
            target = None  # no link, or not there
        if target is None:
            at = entry
            continue
        passed.append(entry)
        if os.path.isabs(target):  # noqa: PTH117
            at = os.path.abspath(os.sep)  # noqa: PTH100
        parts = [*target.split(os.sep), *parts]  # noqa: PTH206
    return (*passed[1:], at) if passed else ()
