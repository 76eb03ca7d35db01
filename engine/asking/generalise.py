"""What could be marked, so that one recording serves what now takes several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...graphstore.store import GraphStore
from ...graphstore.threads import in_thread
from ..generalising.fields import Field
from ..generalising.past_run import PastRun
from ..generalising.proposals import Proposal, propose, refuted
from ..generalising.reading import PastRuns, past_runs
from ..model.client import ChatClient
from ..outcome.cause import MissKind
from ..outcome.differences import inside

__all__ = ["MARKS_MAY_HELP", "Generalised", "Look", "LookedAt", "generalise"]

#: The causes that a mark can remove.
MARKS_MAY_HELP = frozenset({MissKind.NEW_TASK, MissKind.OUTPUT_DIVERGED, MissKind.REQUEST_CHANGED})

#: Told what is looked at, and how much of it was.
Look = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What was looked at of one agent or program.

    Attributes:
        agent: Its name.
        runs: How many runs were compared: published ones that asked a model.
        unreadable: How many were left out: their payloads are damaged, or their requests cannot
            be derived again, as those to a provider that this engine does not know.
        is_all: Whether all runs that were asked for fitted in memory.
        texts: Whether its tasks are plain texts that differ: what stands in a text cannot be
            marked, so the task would have to be an object.
    """

    agent: str
    runs: int
    unreadable: int
    is_all: bool
    texts: bool

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph generalise --json`` prints of it.
        """
        return {
            "agent": self.agent,
            "runs": self.runs,
            "unreadable": self.unreadable,
            "is_all": self.is_all,
            "texts": self.texts,
        }


@dataclass(frozen=True, slots=True)
class Generalised:
    """What could be marked, and what was looked at.

    Attributes:
        proposals: At most one for each agent or program, those that save most first.
        agents: What was looked at.
        hint: That the namespace does not exist, and which do; None if it does.
    """

    proposals: tuple[Proposal, ...]
    agents: tuple[LookedAt, ...]
    hint: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph generalise --json`` prints.
        """
        return {
            "proposals": [it.as_json() for it in self.proposals],
            "agents": [it.as_json() for it in self.agents],
            "hint": self.hint,
        }


async def generalise(
    store: GraphStore,
    client: ChatClient,
    agent: str | None = None,
    *,
    runs: int,
    named: Collection[str] = (),
    look: Look = lambda _what, _done: None,
) -> Generalised:
    """What could be marked of ``agent``; None: of each. ``named``: the inputs that fill a
    requirement of a tool, whether it was called or not. Raises StoreError."""
    tallies = (await store.totals()).tallies
    names = sorted({it.agent for it in tallies if it.agent})
    search = _Search(store, client, runs, named, look)
    for name in names if agent is None else [it for it in names if it == agent]:
        await search.look_at(name)
    await search.hear(names)
    proposals = sorted(search.proposals.values(), key=lambda it: (-it.tokens, it.agent))
    return Generalised(tuple(proposals), tuple(search.looked_at))


class _Search:
    """A search through agents, one after the other: only the runs of one are held at once."""

    def __init__(
        self,
        store: GraphStore,
        client: ChatClient,
        runs: int,
        named: Collection[str],
        look: Look,
    ) -> None:
        self._store = store
        self._client = client
        self._limit = runs
        self._look = look
        self._never = {Field("", inside("$", it)) for it in named}
        self.proposals: dict[str, Proposal] = {}
        self.looked_at: list[LookedAt] = []

    async def look_at(self, agent: str) -> None:
        """Propose what recordings of ``agent`` speak for."""
        past = await self._read(agent)
        self.looked_at.append(
            LookedAt(agent, len(past.runs), past.unreadable, past.is_all, _are_texts(past.runs))
        )
        await self._propose(agent, past, self._never)

    async def hear(self, agents: Sequence[str]) -> None:
        """Withdraw marks on outputs of tools which recordings of other agents speak against."""
        against: dict[str, set[Field]] = defaultdict(set)
        for name in agents if any(_on_tools(it) for it in self.proposals.values()) else ():
            others = [it for it in self.proposals.values() if it.agent != name and _on_tools(it)]
            past = await self._read(name) if others else PastRuns(())
            for other in others:
                against[other.agent] |= await in_thread(partial(refuted, past.runs, other.marks))
        for name, fields in against.items():
            if fields:
                await self._propose(name, await self._read(name), fields | self._never)

    async def _propose(self, agent: str, past: PastRuns, but: set[Field]) -> None:
        tried = 0

        def count() -> None:
            nonlocal tried
            tried += 1
            self._look(f"{agent}: sets of marks tried", tried)

        self.proposals.pop(agent, None)
        found = await in_thread(lambda: propose(past.runs, but=but, tried=count))
        if found is not None:
            self.proposals[agent] = found

    async def _read(self, agent: str) -> PastRuns:
        return await past_runs(
            self._store,
            self._client,
            agent,
            limit=self._limit,
            read=lambda done: self._look(f"{agent}: runs read", done),
        )


def _on_tools(proposal: Proposal) -> bool:
    return any(it.tool is not None for it in proposal.marks)


def _are_texts(runs: Sequence[PastRun]) -> bool:
    inputs = [it.inputs for it in runs]
    return all(isinstance(it, str) for it in inputs) and len(set(inputs)) > 1
