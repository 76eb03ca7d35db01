"""What a run was seen to do that is called again: told by the world, judged by ``wish_judge``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .timeline import Window
from .wishes import Call, Job

__all__ = [
    "Act",
    "Ask",
    "Begun",
    "Happening",
    "Killed",
    "Overloaded",
    "Said",
    "Told",
    "Wanted",
]

#: Something that happens at a point of a run: what, and its arguments.
Happening = tuple[Any, ...]


class Killed(BaseException):
    """The process is killed."""


class Overloaded(Exception):
    """The model's service has a bad day."""


@dataclass(eq=False)
class Ask:
    """What the model said in a turn, by the facts of ``around``, which ``ended`` then (ms)."""

    turn: int
    said: Call
    around: Window
    ended: int


@dataclass(eq=False)
class Begun:
    """An effect that the store let begin, meanwhile."""

    id: str
    tool: str
    item: str
    key: str
    meanwhile: Window


@dataclass(eq=False)
class Act:
    """A tool that was called. ``happened``: it did what it does; ``key``: None if it takes none."""

    call: Call
    key: str | None
    happened: bool = False


@dataclass(eq=False)
class Said:
    """What a person said of an effect that is to be confirmed, and what that person was shown."""

    call: Call
    shown: Mapping[str, str]
    approved: bool


class Wanted(NamedTuple):
    """What is called for. ``how``: as a ``replay``, ``anew``, as a ``shadow`` run. ``max_age``: in
    ms. ``fails``: the turn in which the model's service does. ``confirm``: what a person says who
    is asked meanwhile."""

    job: Job
    run_id: str | None
    how: str = "replay"
    max_age: int | None = None
    fails: int | None = None
    confirm: str | None = None


@dataclass(eq=False)
class Told:
    """One run, what was done to it, and what came of it."""

    number: int
    process: int
    name: str  # of the process
    wanted: Wanted
    mark: int  # of the timeline
    at: int  # ms, when it began
    happenings: dict[int, Happening]
    within: bool = False  # another run of the same wish
    asks: list[Ask] = field(default_factory=list)
    begun: list[Begun] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    kept: bool = False  # its end is, in the store
    killed: bool = False
    failed: bool = False  # the model's service did
    lost: int | None = None  # how many effects it had begun when another run took its wish over
    points: int = 0
    result: Any = None
    error: BaseException | None = None
    around: int = 0  # the timeline's mark since the last thing that it did

    @property
    def job(self) -> Job:
        return self.wanted.job

    @property
    def run_id(self) -> str | None:
        return self.wanted.run_id
