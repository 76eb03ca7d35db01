"""The definition of an agent or a program: what all its runs have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from ...graphstore.canonical import Json
from ...graphstore.facts import Facts
from ...graphstore.model import Trace
from ..model.client import Dialect
from .judging import Code, Period, Recorded, assess, is_too_old

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
    #: An agent's request without its messages; a program makes its own.
    head: Json = None
    #: How old a reply may be that serves it; None: however old.
    max_age: timedelta | None = None

    @property
    def follows(self) -> bool:
        """Whether its runs follow a recorded path."""
        return self.opening is not None

    def assess(self, trace: Trace, facts: Facts) -> tuple[Recorded, ...]:
        """The steps of a trace, each judged."""
        return assess(trace, facts, self.code, self._period)

    def finds_too_old(self, trace: Trace) -> bool:
        """Whether a reply of a trace is older than ``max_age`` allows."""
        return is_too_old(trace, self._period)

    def may_be_served(self, asked: int) -> bool:
        """Whether ``max_age`` allows a reply that was asked for then, in ms since 1970."""
        return self._period is None or self._period.has(asked)

    @property
    def _period(self) -> Period | None:
        if self.max_age is None:
            return None
        now, age = time.time_ns() // 1_000_000, self.max_age // timedelta(milliseconds=1)
        return Period(now - age, now + age)

    @property
    def declared(self) -> list[Json]:
        """What beside a request makes a decision what it is, as it enters code keys: the
        requirements, and how a task is rendered."""
        declared: list[Json] = [requirement.declaration() for requirement in self.code.requires]
        return [*declared, self.opening] if self.follows else declared
