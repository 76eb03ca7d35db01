"""How often what is recorded was what a model said again, when it was asked in shadow."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["Agreement"]


class Agreement(NamedTuple):
    """How many replies, of those compared in shadow runs, said what is recorded.

    Attributes:
        same: How many said what is recorded.
        compared: How many were compared.
    """

    same: int
    compared: int

    @property
    def rate(self) -> float:
        """The part of them that said what is recorded, from 0 to 1; 1 if there were none."""
        return self.same / self.compared if self.compared else 1.0

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {"same": self.same, "compared": self.compared}
