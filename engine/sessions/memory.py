"""What a process remembers between runs, so that it need not be read from the store again."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

__all__ = ["MEMORY_BYTES", "Memory", "MemoryKey"]

#: What a process remembers, in bytes, unless it is told otherwise.
MEMORY_BYTES = 64 << 20

MemoryKey = tuple[str, ...]

_SMALL = 4096  # bytes; what is remembered beside it is counted too


class _Kept(NamedTuple):
    value: object
    size: int


class Memory:
    """Values by key, at most ``limit`` bytes of them; the least recently used go first, and one
    that is larger by itself is not kept.

    Only pure data, so that it may be shared between event loops and survives a fork. Without a
    lock, which a fork could leave held: what another thread has dropped in between is passed
    over, and what was replaced counts until all is counted again.
    """

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self._limit = limit
        self._taken = 0  # bytes, or more than that
        self._kept: OrderedDict[MemoryKey, _Kept] = OrderedDict()

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return sum(it.size for it in tuple(self._kept.values()))

    def get(self, key: MemoryKey) -> object:
        """What was put there last; None if it is not known."""
        if (entry := self._kept.get(key)) is None:
            return None
        self._touch(key)
        return entry.value

    def put(self, key: MemoryKey, value: object, size: int = _SMALL) -> None:
        """Remember a value that takes so many bytes."""
        if size > self._limit:
            self.drop(key)
            return
        self._kept[key] = _Kept(value, size)
        self._touch(key)
        self._taken += size
        if self._taken > self._limit:
            self._make_room_for(key)

    def drop(self, key: MemoryKey) -> None:
        """Forget what is there."""
        self._kept.pop(key, None)

    def _make_room_for(self, newest: MemoryKey) -> None:
        """Count what there is; if that is too much, leave a tenth free, or it would be counted
        at each value that comes."""
        taken = self.size
        if taken > self._limit:
            for key, kept in tuple(self._kept.items()):
                if taken <= self._limit * 0.9 or key == newest:
                    break
                self.drop(key)
                taken -= kept.size
        self._taken = taken

    def _touch(self, key: MemoryKey) -> None:
        with suppress(KeyError):
            self._kept.move_to_end(key)
