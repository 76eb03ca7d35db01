"""Stamps of files: by stat alone, whether a file was written since it was read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping

from ..source import Stamp

__all__ = ["FileStamp", "file_stamp", "resource_stamp", "stamps_now"]

# A file may be written twice without its times showing it: clocks tick coarsely, at worst every
# 2 seconds (FAT). So what changed that recently is read again, whatever its stamp.
_TICK_NS = 2_000_000_000

#: When a file was written and changed, how long it is, and which it is. None: unknown.
FileStamp = tuple[int, int, int, int, int] | None


def file_stamp(status: os.stat_result | None) -> FileStamp:
    """The stamp of a file of which ``os.stat`` gives this."""
    if status is None:
        return None
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_dev)


def resource_stamp(files: Mapping[str, FileStamp], now: int) -> Stamp:
    """The stamp of a resource that these files claim, seen at ``now`` (in nanoseconds)."""
    if any(seen is None or seen[1] > now - _TICK_NS for seen in files.values()):
        return None
    return tuple(sorted(files.items()))


def stamps_now(paths: Iterable[str]) -> dict[str, FileStamp]:
    """The stamps of the regular files that there are at these paths now."""
    stamps = {}
    for path in paths:
        try:
            there = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(there.st_mode):
            stamps[path] = file_stamp(there)
    return stamps
