"""The definition of an agent or a program: what all its runs have in common."""

from __future__ import annotations

from dataclasses import dataclass

from ...graphstore.canonical import Json
from ..model.client import Dialect
from .judging import Code

__all__ = ["Definition"]


@dataclass(frozen=True)
class Definition:
    """The definition of one agent or program, which all its runs share."""

    name: str
    code: Code
    dialect: Dialect
    #: How an agent renders a task for its model, by an example. An agent's steps are a function of
    #: the recorded ones, so it follows a recorded path; None: a program, which runs its own code.
    opening: Json = None

    @property
    def follows(self) -> bool:
        """Whether its runs follow a recorded path."""
        return self.opening is not None

    @property
    def declared(self) -> list[Json]:
        """What beside a request makes a decision what it is, as it enters code keys: the
        requirements, and how a task is rendered."""
        declared: list[Json] = [requirement.declaration() for requirement in self.code.requires]
        return [*declared, self.opening] if self.follows else declared
