"""When a read was last found to give what it had given, as far as this process knows.

A recording keeps when its read began. A replay that runs it again and gets the same makes no
recording of its own: that the output is as fresh as this is remembered here.
"""

from __future__ import annotations

from collections import OrderedDict

from ...graphstore.model import Step

__all__ = ["Reads"]

_MOST = 10_000  # what is forgotten is read again


class Reads:
    """The newest time at which a call gave an output, in milliseconds since 1970."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str], int] = OrderedDict()

    def note(self, step: Step, at: int) -> None:
        """Note that the call of ``step`` gave its output when it was begun at that time."""
        self._times[step.key, step.output] = at
        self._times.move_to_end((step.key, step.output))
        if len(self._times) > _MOST:
            self._times.popitem(last=False)

    def last(self, step: Step) -> int | None:
        """When the call of ``step`` last gave its output; None: nobody knows."""
        known = self._times.get((step.key, step.output), 0)
        return max(known, step.started_at or 0) or None
