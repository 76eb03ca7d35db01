"""Who runs: an agent, or a program."""

from __future__ import annotations

from dataclasses import dataclass

from ..graphstore.canonical import Json
from .client import Dialect
from .verdict import Code

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """What all runs of one agent, or of one program, have in common."""

    name: str
    code: Code
    dialect: Dialect
    follows: bool  # whether its steps are a function of the recorded ones, as an agent's are

    @property
    def requires(self) -> list[Json]:
        """The declared requirements, as they enter code keys."""
        return [requirement.declaration() for requirement in self.code.requires]
