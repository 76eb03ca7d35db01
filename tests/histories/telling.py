"""What a run of a random program was seen to do: told by the world, judged by ``judge``."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from .programs import Program
from .script import Facet
from .timeline import Window

__all__ = ["Act", "Ask", "Decided", "Told", "acting", "deciding", "key_of"]

_serial = itertools.count()


@dataclass(eq=False)
class Ask:
    """A reply that the model gave. ``read``: the facts by which it did; ``around``: those since
    the program decided to ask. ``inherited``: what it is known to rest on besides."""

    key: str
    reply: Any
    read: Window
    around: Window
    own: frozenset[Facet]
    run: Told
    inherited: frozenset[Facet] = frozenset()

    @property
    def rests_on(self) -> frozenset[Facet]:
        return self.own | self.inherited


@dataclass(eq=False)
class Decided:
    """A decision of a program. ``ask``: the model was asked for it, in this run."""

    how: str
    request: Any
    began: int  # the timeline's mark
    moment: int  # of the run, as it goes on
    handle: Any = None
    key: str = ""
    reply: Any = None
    ask: Ask | None = None
    served: Window = ()  # from the run's beginning until it was served
    followed: set[Facet] = field(default_factory=set)  # what the writes rest on that followed
    may_guard: set[Facet] = field(default_factory=set)  # what at most guards it


@dataclass(eq=False)
class Act:
    """An act of a program: ``follows`` from these decisions, which its values came from or which
    steered the program to it; ``chosen`` by these at most, by the rule."""

    run: Told
    tool: str
    given: Any
    follows: frozenset[Decided]
    chosen: frozenset[Decided] = frozenset()
    entered: int = 0  # how often the tool ran
    begun: Window | None = None  # while the check of its effect was made, that let it begin
    begun_inside: bool = False  # before the block ended
    received: Mapping[str, Any] = field(default_factory=dict)
    handle: Any = None
    moment: int = 0  # when its effect began; else, when it did
    refused: bool = False
    ended: bool = False  # it came to something
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False)
class Told:
    """One run."""

    process: int
    who: Program
    version: str
    replay: bool
    began: int
    number: int = field(default_factory=lambda: next(_serial))
    decided: list[Decided] = field(default_factory=list)
    acts: list[Act] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None
    moments: Iterator[int] = field(default_factory=itertools.count)
    over: bool = False  # its block has ended
    unfinished: bool = False  # some act had not ended when the block did, or was given up
    moved: bool = False  # something changed during it

    @property
    def asks(self) -> list[Ask]:
        return [it.ask for it in self.decided if it.ask is not None]

    @property
    def refused(self) -> bool:
        return any(act.refused for act in self.acts)

    @property
    def clean(self) -> bool:
        """Whether a run that follows it at once can be served by what it left."""
        ended = self.result is not None and not self.unfinished and not self.refused
        return ended and self.replay and (self.result.recorded or not self.asks)


#: What is being decided, and what is being done, where the engine calls back.
deciding: ContextVar[Decided | None] = ContextVar("deciding", default=None)
acting: ContextVar[Act | None] = ContextVar("acting", default=None)


def key_of(who: Iterable[Any], how: str, request: Any) -> str:
    """By what a decision is known: who decides, and what is asked."""
    return json.dumps([*who, how, request], sort_keys=True, default=str)
