"""The effects of a run: what it has begun to do to the outside, and what never came to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ...graphstore.model import Effect, SideEffect
from ..steps.run_step import RunStep
from ..tools.tool import Tool

__all__ = ["Effects", "known_by"]


def known_by(effect: SideEffect) -> str:
    """What tells an effect apart from the others of its run."""
    return effect.once or effect.idempotency_key


class Effects:
    """The effects of a run by id, also those whose step was never taken."""

    def __init__(self) -> None:
        self._begun: dict[str, SideEffect] = {}
        self._earlier: list[SideEffect] = []
        self._raised: list[SideEffect] = []
        self._claimed: set[str] = set()
        self._unfinished: list[Tool] = []

    @property
    def begun(self) -> list[SideEffect]:
        """The effects begun, in their order; those in doubt are among them."""
        return list(self._begun.values())

    @property
    def lost(self) -> list[str]:
        """The names of writing tools with which a program acted, without that coming to its end."""
        names = {tool.name for tool in self._unfinished if tool.is_write}
        return sorted(names) if names else []

    def begin(self, effect: SideEffect) -> None:
        """Note an effect whose intent is written, so that it may happen from now on."""
        self._begun[effect.id] = effect

    def has_begun(self, effect: SideEffect) -> bool:
        """Whether it is an effect of this run, whose tool is at work or has ended."""
        return effect.id in self._begun

    def end(self, ended: SideEffect) -> None:
        """Note how an effect has ended."""
        self._begun[ended.id] = ended

    def fail(self, effect: SideEffect, tool: Tool) -> None:
        """Note that the tool of an effect raised, or was cut short: it may have happened all the
        same. Who repeats the call of one that takes a key is about the same effect."""
        self._raised.append(effect)
        if tool.wants_key and tool.effect is not Effect.ONCE:
            self.give_back(effect)

    @contextmanager
    def may_be_cut_short(self, effect: SideEffect | None, tool: Tool) -> Iterator[None]:
        """Note the effect as failed if its tool does not come to an end."""
        try:
            yield
        except BaseException:
            if effect is not None:
                self.fail(effect, tool)
            raise

    def failed(self, key: str) -> Sequence[SideEffect]:
        """The effects of this run under an idempotency key whose tool raised."""
        return [it for it in self._raised if it.idempotency_key == key]

    def settle(self, ended: SideEffect) -> None:
        """Note what became of an effect that was in doubt."""
        self._raised = [it for it in self._raised if it.id != ended.id]
        if ended.id in self._begun:
            self._begun[ended.id] = ended

    def in_doubt(self, effect: SideEffect) -> SideEffect | None:
        """The effect with the same arguments whose tool raised, or was cut short, in this run."""
        call = (effect.tool, effect.arguments_key)
        return next((it for it in self._raised if (it.tool, it.arguments_key) == call), None)

    def claim(self, known_by: str) -> bool:
        """Claim what an effect is known by; whether no call of this run has."""
        free = known_by not in self._claimed
        self._claimed.add(known_by)
        return free

    def give_back(self, effect: SideEffect) -> None:
        """Take back the claim of an effect that did not happen: a next call may be it."""
        self._claimed.discard(known_by(effect))

    def start_over(self, run_steps: Iterable[RunStep]) -> None:
        """The run has gone back: only what the steps on its path are about is claimed."""
        self._claimed = {it.known_by for it in run_steps if it.known_by is not None}

    @property
    def earlier(self) -> Sequence[SideEffect]:
        """Effects of before that are not to happen again: those done, and those in doubt."""
        return self._earlier

    def meet(self, earlier: SideEffect) -> None:
        """Note an effect of before, so that it does not happen again."""
        self._earlier.append(earlier)

    @contextmanager
    def acting(self, tool: Tool) -> Iterator[None]:
        """Note that a program acts. What is cut short, or not awaited, stays among the
        unfinished."""
        self._unfinished.append(tool)
        try:
            yield
        except Exception:
            self._unfinished.remove(tool)
            raise
        self._unfinished.remove(tool)
