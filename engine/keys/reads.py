"""What was read of a running program, and whether it is still as it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["MISSING", "Reads", "all_are", "equal", "same_members"]

#: What is read where there is nothing.
MISSING = object()

Same = Callable[[Any, Any], bool]


class _Read(NamedTuple):
    """Something that was read, and how to see whether it is still the same."""

    now: Callable[[], Any]
    then: Any
    same: Same


def _is(one: Any, other: Any) -> bool:
    return one is other


def equal(one: Any, other: Any) -> bool:
    """Whether two values are equal."""
    return bool(one == other)


def all_are(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two tuples hold the same objects."""
    return len(one) == len(other) and all(map(_is, one, other))


def same_members(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two namespaces hold the same objects under the same names."""
    return len(one) == len(other) and all(
        one.get(name, MISSING) is value for name, value in other.items()
    )


class Reads:
    """The values that one walk has read."""

    def __init__(self) -> None:
        self._names: list[tuple[Callable[[str, object], object], str, object]] = []
        self._reads: list[_Read] = []

    @property
    def stand(self) -> bool:
        """Whether all that was read is still as it was, found by a few comparisons."""
        for get, name, then in self._names:  # most of what there is, so without a call more
            if get(name, MISSING) is not then:
                return False
        return all(read.same(read.now(), read.then) for read in self._reads)

    def name(self, get: Callable[[str, object], object], name: str) -> Any:
        """What there is under a name, now and as long as this stands; MISSING: nothing."""
        value = get(name, MISSING)
        self._names.append((get, name, value))
        return value

    def value(self, now: Callable[[], Any], same: Same = _is) -> Any:
        """What ``now`` gives, as long as this stands: the ``same`` later."""
        self._reads.append(_Read(now, then := now(), same))
        return then
