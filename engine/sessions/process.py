"""Which process something was begun by, and whether it is known to be dead."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

__all__ = ["is_dead", "is_here", "this_process"]

_PROC = Path("/proc")


def this_process() -> str | None:
    """The name of this process, which no other has: machine since it was booted, namespace of
    process ids, id, and start. None where the system does not tell them (it does on Linux)."""
    return _name_of(os.getpid())


@lru_cache(maxsize=1)  # of another one after a fork
def _name_of(pid: int) -> str | None:
    where, started = _where(), _started(pid)
    return f"{where}/{pid}/{started}" if where and started else None


def is_dead(process: str | None) -> bool:
    """Whether a process of that name is known not to run any more. Of one that another machine or
    container has begun, nothing is known."""
    if process is None:
        return False
    where, pid, started = process.rsplit("/", 2)
    if where != _where():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # it is somebody else's, and may be hidden
    return _started(int(pid)) not in (started, None)


def is_here(process: str) -> bool:
    """Whether it can be told here if a process of that name runs."""
    return process.rsplit("/", 2)[0] == _where()


def _where() -> str | None:
    return _where_is(os.getpid())


@lru_cache(maxsize=1)  # a child may be in another namespace
def _where_is(_pid: int) -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When a process began, in ticks since the machine was booted; "" of one that has ended and
    waits to be looked at; None: it cannot be seen."""
    try:  # often asked, so without anything in between
        file = os.open(f"{_PROC}/{pid}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        told = os.read(file, 4096).decode(errors="replace")
    except OSError:
        return None
    finally:
        os.close(file)
    fields = told.rpartition(")")[2].split()  # its name may hold anything
    return "" if fields[0] in ("Z", "X") else fields[19]
