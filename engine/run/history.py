"""What earlier runs of the same run id did, up to the last effect that they began: it stands.

It is not asked or run again, whatever has changed since: what was done followed from it. An agent's
steps stand by their places in the conversation; a program's by what they ask and call, as its own
code says again what comes next. Effects stand by their idempotency keys.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ...graphstore.model import Attempts, EffectState, SideEffect, StepKind
from ...graphstore.roles.presence import Presence
from ..errors import EffectInDoubt
from ..steps.kept_steps import Begun, KeptStep, read_entry

__all__ = ["History"]


def _steps_behind(entries: Iterable[KeptStep | Begun]) -> int:
    """How many steps a run had behind it when it last began an effect. A later run of the id has
    those of before among its own, so this tells their order; clocks of machines do not."""
    return max((it.steps for it in entries if isinstance(it, Begun)), default=0)


class _Place(NamedTuple):
    """A call in the reply of an agent's decision."""

    decision: int
    call: int


@dataclass
class History:
    """The steps that stand, in their order, and the effects begun by the calls of an agent."""

    steps: Sequence[KeptStep] = ()
    effects: Mapping[_Place, SideEffect] = field(default_factory=dict)
    #: The code of the tools that have begun effects, by the effect's id.
    code: Mapping[str, str] = field(default_factory=dict)
    _decisions: dict[tuple[str, int], KeptStep] = field(default_factory=dict)
    _calls: dict[str, list[KeptStep]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Presence, attempts: Attempts) -> History:
        """Read it. Raises EffectInDoubt if what led to an effect is lost."""
        begun = {it.id: it for it in attempts.effects if it.state is not EffectState.NOT_PERFORMED}
        by_run: dict[str, list[KeptStep | Begun]] = defaultdict(list)
        for entry in sorted(attempts.entries, key=lambda it: (it.execution, it.number)):
            if (kept := read_entry(store.namespace, entry)) is not None:
                by_run[entry.execution].append(kept)
        places: dict[_Place, SideEffect] = {}
        steps: list[KeptStep] = []
        code: dict[str, str] = {}
        for execution in sorted(by_run, key=lambda it: (_steps_behind(by_run[it]), it)):
            known: dict[int, KeptStep] = {}
            for kept in by_run[execution]:
                if isinstance(kept, KeptStep):
                    known[kept.step.position] = kept
                elif (effect := begun.get(kept.effect)) is not None:
                    code[effect.id] = kept.code_key
                    if kept.decision is not None and kept.call is not None:
                        places[_Place(kept.decision, kept.call)] = effect
                    if any(position not in known for position in range(kept.steps)):
                        raise EffectInDoubt(effect, store)
                    steps = [known[position] for position in range(kept.steps)]
        return cls._indexed(steps, places, code)

    @classmethod
    def _indexed(
        cls,
        steps: Sequence[KeptStep],
        places: Mapping[_Place, SideEffect],
        code: Mapping[str, str],
    ) -> History:
        decisions = {
            (it.step.key, it.step.occurrence): it
            for it in steps
            if it.step.kind is StepKind.DECISION
        }
        calls: dict[str, list[KeptStep]] = defaultdict(list)
        for it in steps:
            if it.step.kind is StepKind.ACTION:
                calls[it.called].append(it)
        return cls(steps, places, code, decisions, calls)

    def next_decision(self, position: int) -> KeptStep | None:
        """An agent's decision at this position."""
        kept = self.steps[position] if position < len(self.steps) else None
        return kept if kept is not None and kept.step.kind is StepKind.DECISION else None

    def actions(self, decision: int) -> Mapping[int, KeptStep]:
        """The actions of an agent's decision, by the number of the call."""
        if not self.steps:  # as of most runs
            return {}
        after = (it for it in self.steps[decision:] if it.step.decision == decision)
        return {it.step.call: it for it in after if it.step.call is not None}

    def effect(self, decision: int | None, call: int | None) -> SideEffect | None:
        """The effect that a call of an agent's decision has begun."""
        if decision is None or call is None:
            return None
        return self.effects.get(_Place(decision, call))

    def decision(self, key: str, occurrence: int) -> KeptStep | None:
        """A program's decision."""
        return self._decisions.pop((key, occurrence), None)

    def call(self, called: str) -> KeptStep | None:
        """A program's call of a tool that has no effects."""
        kept = self._calls.get(called)
        return kept.pop(0) if kept else None
