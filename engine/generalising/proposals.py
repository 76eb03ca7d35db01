"""Marks that would have made one recording of several, and what they would have saved."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from ...graphstore.canonical import encode
from ...graphstore.model import Step
from ..tools.marks import Marks
from .dry_run import DryRun, Refuted, dry_run
from .field_values import FieldValues
from .fields import LEAST_VALUES, Field, Mark
from .past_run import Marking, PastRun

__all__ = ["Proposal", "ProposedMark", "propose", "refuted"]

_RISK = 0.05  # that ``ProposedMark.doubt`` is said too small


@dataclass(frozen=True, slots=True)
class ProposedMark:
    """A mark that is proposed for a field, and never set unasked.

    Attributes:
        tool: The tool whose output has the field; None: an input of the task has it.
        selector: The field.
        mark: "opaque": a model only carries it; "unseen": no model has mentioned it.
        values: How many different values it had in runs that were otherwise equal.
        tokens: What would not have been saved without this one among the proposed marks.
        doubt: How sure that is: no more than this part of all values, from 0 to 1, makes a model
            act otherwise, if those that were seen are like the others. It is said with 95 %
            confidence, and follows from the number of values alone.
    """

    tool: str | None
    selector: str
    mark: Mark
    values: int
    tokens: int

    @property
    def doubt(self) -> float:
        """See the attributes."""
        return 1.0 - math.pow(_RISK, 1.0 / self.values)

    @property
    def declaration(self) -> str:
        """What is to be declared, as in ``opaque=["$.incident"]``."""
        return f"{self.mark}=[{json.dumps(self.selector, ensure_ascii=False)}]"

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph generalise --json`` prints of one mark.
        """
        return {
            "tool": self.tool,
            "selector": self.selector,
            "mark": self.mark,
            "declaration": self.declaration,
            "values": self.values,
            "tokens": self.tokens,
            "doubt": round(self.doubt, 4),
        }


@dataclass(frozen=True, slots=True)
class Proposal:
    """Marks that, set together, would have had recordings of an agent serve more of its runs.

    Attributes:
        agent: The agent's or the program's name.
        kind: "agent" or "program".
        marks: What to mark: inputs first, then outputs of tools.
        served: The ids of the runs that would have asked no model.
        partly: The ids of the runs that would have asked less.
        recordings: The ids of runs that would have served these.
        tokens: What all these would have saved, in tokens as billed.
        cost: The price of ``tokens`` in US dollars; None if that of a part is not known.
    """

    agent: str
    kind: str
    marks: tuple[ProposedMark, ...]
    served: tuple[str, ...]
    partly: tuple[str, ...]
    recordings: tuple[str, ...]
    tokens: int
    cost: float | None

    def is_about(self, execution: str) -> bool:
        """Whether a run is one of those that it rests on.

        Args:
            execution: The run's id.

        Returns:
            Whether it would have been served, in part or whole, or would have served others.
        """
        return execution in (*self.served, *self.partly, *self.recordings)

    @property
    def advice(self) -> str:
        """What could be marked, and what it would have saved, in a sentence."""
        marks = " and ".join(
            f"{it.declaration} of the {f'tool {it.tool}' if it.tool else self.kind}"
            for it in self.marks
        )
        many = len(self.served) + len(self.partly)
        return f"{marks} would have saved {self.tokens:,} tokens in {many:,} of its runs"

    def as_json(self) -> dict[str, Any]:
        """Give all of it as JSON.

        Returns:
            What ``execgraph generalise --json`` prints of one agent.
        """
        return {
            "agent": self.agent,
            "kind": self.kind,
            "marks": [it.as_json() for it in self.marks],
            "served": list(self.served),
            "partly": list(self.partly),
            "recordings": list(self.recordings),
            "tokens": self.tokens,
            "cost": self.cost,
        }


def propose(
    runs: Sequence[PastRun],
    *,
    but: Collection[Field] = (),
    tried: Callable[[], None] = lambda: None,
) -> Proposal | None:
    """The marks that would have saved tokens in ``runs`` of one agent or program, the oldest first;
    None if there are none. ``but``: fields that are not to be marked. ``tried``: told of each set
    of marks that was tried."""
    if len(runs) < LEAST_VALUES:
        return None
    return _Search(runs, FieldValues(runs), tried).proposal(but)


def refuted(runs: Sequence[PastRun], marks: Iterable[ProposedMark]) -> set[Field]:
    """Those of the marks on outputs that ``runs`` of another agent refute, which has the same
    tools: it reasons about a value, or mentions one that was to be unseen."""
    chosen = {Field(it.tool, it.selector): it.mark for it in marks if it.tool is not None}
    values = FieldValues(runs)
    return _Search(runs, values, lambda: None).refuted(
        {field: mark for field, mark in chosen.items() if values.has(field)}
    )


class _Search:
    """The search for marks: from all fields that could have one to those that are of use."""

    def __init__(
        self, runs: Sequence[PastRun], values: FieldValues, tried: Callable[[], None]
    ) -> None:
        self._runs = runs
        self._values = values
        self._tried = tried

    def proposal(self, but: Collection[Field]) -> Proposal | None:
        """The marks that are left."""
        candidates = self._values.candidates()
        chosen = {it: mark for it, mark in candidates.items() if it not in but}
        while chosen:
            try:
                outcome = self._dry_run(chosen)
            except Refuted as why:
                chosen = self._but_blamed(chosen, why)
                continue
            distinct = {it: self._distinct(it, outcome) for it in chosen}
            saved = self._saved(outcome)
            marginal = {it: saved - self._saved_without(chosen, it) for it in chosen}
            worst = min(chosen, key=lambda it: (distinct[it] >= LEAST_VALUES, marginal[it], it))
            if distinct[worst] >= LEAST_VALUES and marginal[worst] > 0:
                return self._made_of(chosen, outcome, distinct, marginal)
            del chosen[worst]
        return None

    def refuted(self, chosen: Mapping[Field, Mark]) -> set[Field]:
        """Those of the marks that these runs speak against."""
        mentioned = {it for it, mark in chosen.items() if self._values.speaks_against(it, mark)}
        left = {it: mark for it, mark in chosen.items() if it not in mentioned}
        while left:
            try:
                self._dry_run(left)
            except Refuted as why:
                left = self._but_blamed(left, why)
                continue
            break
        return set(chosen) - set(left)

    def _dry_run(self, chosen: Mapping[Field, Mark]) -> DryRun:
        self._tried()
        marking = _marking({**self._values.marked, **chosen})
        return dry_run(self._runs, marking, self._anyway)

    @cached_property
    def _anyway(self) -> Mapping[int, Sequence[int]]:
        """What recordings would have served as things are marked now, and for other reasons did
        not."""
        with suppress(Refuted):
            return dry_run(self._runs, _marking(self._values.marked)).served
        return {number: list(run.asked) for number, run in enumerate(self._runs)}

    def _but_blamed(self, chosen: Mapping[Field, Mark], why: Refuted) -> dict[Field, Mark]:
        """The marks but for those whose values may be why two runs went different ways."""
        one, other = why.runs
        seen = partial(self._values.of, before=why.position)
        if why.values:
            told = {encode(it) for it in why.values}
            blamed = {it for it in chosen if told & set(seen(it, one))}
        else:
            blamed = {it for it in chosen if one == other or seen(it, one) != seen(it, other)}
        return {it: mark for it, mark in chosen.items() if it not in (blamed or chosen)}

    def _distinct(self, field: Field, outcome: DryRun) -> int:
        """How many values a field had in runs that would have made equal requests after it."""
        found: set[object] = set()
        for places in outcome.shared.values():
            values = {self._values.of(field, run, before=it) for run, it in places.items()}
            found |= values - {()} if len(values) > 1 else set()
        return len(found)

    def _saved_without(self, chosen: Mapping[Field, Mark], one: Field) -> int:
        others = {it: mark for it, mark in chosen.items() if it != one}
        try:
            return self._saved(self._dry_run(others)) if others else 0
        except Refuted:
            return 0

    def _saved(self, outcome: DryRun) -> int:
        return sum(step.tokens for step in self._served(outcome))

    def _served(self, outcome: DryRun) -> list[Step]:
        return [
            self._runs[number].steps[position]
            for number, positions in outcome.served.items()
            for position in positions
        ]

    def _made_of(
        self,
        chosen: Mapping[Field, Mark],
        outcome: DryRun,
        distinct: Mapping[Field, int],
        marginal: Mapping[Field, int],
    ) -> Proposal:
        run = self._runs[-1]
        ids = {number: it.execution.id for number, it in enumerate(self._runs)}
        costs = [it.cost for it in self._served(outcome)]
        known = [it for it in costs if it is not None]
        givers = {number for some in outcome.shared.values() for number in some}
        return Proposal(
            agent=run.execution.agent,
            kind=run.kind,
            marks=tuple(
                ProposedMark(it.tool or None, it.selector, chosen[it], distinct[it], marginal[it])
                for it in sorted(chosen)
            ),
            served=tuple(ids[it] for it in sorted(outcome.whole)),
            partly=tuple(ids[it] for it in sorted(outcome.served.keys() - outcome.whole)),
            recordings=tuple(ids[it] for it in sorted(givers - outcome.served.keys())),
            tokens=self._saved(outcome),
            cost=sum(known) if len(known) == len(costs) else None,
        )


def _marking(chosen: Mapping[Field, Mark]) -> Marking:
    by_owner: dict[str, dict[Mark, list[str]]] = defaultdict(lambda: {"opaque": [], "unseen": []})
    for field, mark in chosen.items():
        by_owner[field.tool][mark].append(field.selector)
    marks = {tool: Marks(tool, **selectors) for tool, selectors in by_owner.items()}
    return Marking(marks.pop("", Marks("the task")), marks)
