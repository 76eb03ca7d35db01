"""Which traces of a task there are, with the facts that they rest on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..facts import Facts
from ..model import Task, Trace

__all__ = ["LOOKUP_TRIES", "Choose", "Lookup", "Lookups"]


#: How often a lookup is repeated because a facet that the task's own traces rest on moved.
LOOKUP_TRIES = 5

#: A pure function from a task's traces (newest first) and the facts they rest on to the id of
#: the trace whose payloads are wanted, or None.
Choose = Callable[[Sequence[Trace], Facts], str | None]


@dataclass(frozen=True, slots=True)
class Lookup:
    """A task's published traces (newest first) with the facts of all their resources.

    There was a moment during the call at which all those facts held together and all those
    executions were published. ``damaged``: ids of published executions that did not read as
    their manifest says, or the chosen one's whose payloads do not have their digests; they are
    not among ``traces``.
    """

    traces: tuple[Trace, ...]
    facts: Facts
    chosen: str | None
    values: Mapping[str, bytes]  # the chosen trace's payloads by digest, each verified
    damaged: tuple[str, ...] = ()


class Lookups(Protocol):
    """Finds what may be replayed."""

    @abstractmethod
    async def lookup(self, task: str, choose: Choose) -> Lookup:
        """The published traces of the task with this key, and the payloads of the one chosen.

        SQLite: one read transaction. Neo4j: two steps (docs/algorithm.md, 5), repeated while a
        facet that the traces rest on moves in between, at most ``LOOKUP_TRIES`` times, after which
        the answer has no traces. Traces whose facets are missing at a current version are
        completed as ``facts`` does and looked up again. ``choose`` is pure and may be called
        more than once.
        """

    @abstractmethod
    async def still(
        self,
        execution: str,
        accepted: Mapping[str, int],
        *,
        exact: str | None = None,
        alive: Collection[str] = (),
    ) -> bool:
        """Whether ``execution`` is published and every resource's ``current`` is the version in
        ``accepted`` and to be believed now; and no run of the ``exact`` task (``Wish.task``; None:
        of its own task) is unfinished that has no run id, and is not at work in a process of those
        that are ``alive``. One statement, one round trip."""

    @abstractmethod
    async def values(self, digests: Collection[str]) -> dict[str, bytes]:
        """Payloads by digest. Raises PayloadCorrupted for any that is missing or damaged."""

    @abstractmethod
    async def recent_tasks(self, agent: str, *, limit: int = 20) -> list[Task]:
        """The tasks of the newest ``limit`` executions of an agent or program that have a
        published trace: each once, the one that was run last first."""
