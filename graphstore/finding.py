"""What an examination of a store has found, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Level"]


class Level(StrEnum):
    """``error``: something is lost, or cannot be done. ``warning``: somebody should look."""

    GOOD = "good"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``remedy``: what to do; empty if all is well."""

    level: Level
    about: str
    says: str
    remedy: str = ""
