"""Drawing lots: which runs are among a share of all runs."""

from __future__ import annotations

from random import SystemRandom

__all__ = ["drawn", "why_no_share"]

#: A program's own random numbers are not disturbed, and a fork does not draw as its parent does.
_RANDOM = SystemRandom()


def drawn(share: float) -> bool:
    """Whether a run is one of this share of all runs."""
    return share > 0 and (share >= 1 or _RANDOM.random() < share)


def why_no_share(share: object) -> str | None:
    """What is wrong with a share; None if nothing is."""
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1:
        return None
    return "is no share of runs; give a number from 0 to 1, for example 0.01 for one in a hundred"
