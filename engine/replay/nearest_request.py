"""Which recorded request is nearest to one that no recording answers, and where the two differ.

It only explains a miss, and reads a few requests at most: of those whose digests are most alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from ...graphstore.canonical import decode
from ...graphstore.model import Step, StepKind, Trace
from ..lookup.changed_code import changed_decision
from ..model.client import Dialect, Names
from ..outcome.cause import Cause, MissKind
from ..outcome.differences import Difference, distance, request_differences
from ..run.run import Run
from ..transcript import Asked, references, request_messages, text_of, with_values

__all__ = ["Request", "comparable", "request_changed"]

_NEAR = 8  # so many decisions before and after the place that the request has in its run
_READ = 4  # requests whose payloads are read

_TOO_SHORT = "a marked value stands in it that is too short to be told apart"


class Request(NamedTuple):
    """A request as it was stored, with the outputs in it that are told by their digests."""

    head: Any
    messages: tuple[Any, ...]


class _Candidate(NamedTuple):
    """A recorded decision; a lower ``rank`` is compared first."""

    rank: tuple[int, int, int]
    trace: Trace
    step: Step
    messages: tuple[str, ...]

    @property
    def digests(self) -> list[str]:
        return [it for it in (self.step.head, *self.messages) if it is not None]


async def request_changed(run: Run, asked: Asked, dialect: Dialect) -> Cause:
    """The cause that no recorded request equals ``asked``, with the nearest one."""
    cause = Cause(MissKind.REQUEST_CHANGED, asked.model)
    try:
        recorded = await _nearest(run, asked)
        if not recorded:
            return cause
        head, messages = decode(asked.head.data), [decode(it.data) for it in asked.messages]
        texts = {key: text_of(data) for key, data in run.path.outputs.items()}
        now = Request(head, tuple(with_values(it, texts) for it in messages))
        pairs = [(it, comparable(then, now, dialect)) for it, then in recorded]
        # ``min`` keeps the first of equals: the one in the same place.
        nearest, pair = min(pairs, key=lambda it: distance(*it[1]))
        where = request_differences(*pair) or _of_requirements(run, nearest)
        where = tuple(_noted(run, it) for it in where)
        return Cause(cause.kind, cause.node, nearest.step.key, asked.key, differences=where)
    except (ValueError, RecursionError):
        return cause


def _noted(run: Run, difference: Difference) -> Difference:
    """A difference, with what is to be known of it if a marked value stands in it all the same."""
    is_shown = difference.after is not None and run.standins.still_in([difference.after])
    return difference._replace(note=_TOO_SHORT) if is_shown and not difference.note else difference


def _of_requirements(run: Run, nearest: _Candidate) -> tuple[Difference, ...]:
    """What is required beside what was: that makes a request another one, too."""
    code = run.definition.code
    return changed_decision(nearest.step, nearest.trace, code.requires, tuple(code.tools.values()))


async def _nearest(run: Run, asked: Asked) -> list[tuple[_Candidate, Request]]:
    """The requests that may be nearest, from the store."""
    candidates = sorted(_candidates(run, asked), key=lambda it: it.rank)[:_READ]
    wanted = sorted({digest for it in candidates for digest in it.digests})
    if not wanted or not (values := await run.search.payloads(wanted)):
        return []
    parts = {digest: decode(data) for digest, data in values.items()}
    named = {it for part in parts.values() for it in references(part)}
    known = dict(run.path.outputs)
    if unknown := sorted(named - known.keys()):
        known |= await run.search.payloads(unknown)
    texts = {key: text_of(known[key]) for key in named & known.keys()}
    found = []
    for candidate in candidates:
        head = None if candidate.step.head is None else parts[candidate.step.head]
        messages = tuple(with_values(parts[it], texts) for it in candidate.messages)
        found.append((candidate, Request(head, messages)))
    return found


def _candidates(run: Run, asked: Asked) -> Iterator[_Candidate]:
    """Recorded decisions that this run has not taken, near to the place of the request."""
    taken = {(step.key, step.occurrence) for step in run.steps}
    number = sum(step.kind is StepKind.DECISION for step in run.steps)
    now = tuple(it.digest for it in asked.messages)
    known = set[str]()
    for age, trace in enumerate(run.search.plan.traces):
        decisions = [it for it in trace.steps if it.kind is StepKind.DECISION]
        near = max(0, number - _NEAR)
        for place, step in enumerate(decisions[near : number + _NEAR + 1], near):
            if (step.key, step.occurrence) in taken or step.key in known:
                continue
            known.add(step.key)
            messages = request_messages(trace.steps, step.position)
            unlike = _unlike(messages, now) + (step.head != asked.head.digest)
            yield _Candidate((unlike, abs(place - number), age), trace, step, messages)


def _unlike(then: Sequence[str], now: Sequence[str]) -> int:
    """How many messages are neither in a common beginning nor in a common end."""
    shorter = min(len(then), len(now))
    start = next((at for at in range(shorter) if then[at] != now[at]), shorter)
    rest = range(1, shorter - start + 1)
    end = next((at - 1 for at in rest if then[-at] != now[-at]), shorter - start)
    return max(len(then), len(now)) - start - end


def comparable(
    then: Request, now: Request, dialect: Dialect
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Two requests without what changes no answer: hints, and ids that are made up."""
    heads: list[Any] = [then.head, now.head]
    with suppress(Exception):  # it may have been written for another provider
        heads = [dialect.canonical_head(it) for it in heads]
    before, after = list(then.messages), list(now.messages)
    with suppress(Exception):
        canonical = [_canonical(it, dialect) for it in (before, after)]
        for place, (one, other) in enumerate(zip(*canonical, strict=False)):
            if one == other:
                before[place] = after[place]
            elif not _are_plain(before[place], after[place]):
                before[place], after[place] = one, other
    first, second = (it if isinstance(it, Mapping) else {"request": it} for it in heads)
    return {**first, "messages": before}, {**second, "messages": after}


def _canonical(messages: Sequence[Any], dialect: Dialect) -> list[Any]:
    names = Names()
    return [dialect.canonical_message(it, names) for it in messages]


def _are_plain(*messages: Any) -> bool:
    """Whether messages are one text each, and best told as that."""
    return all(isinstance(it, Mapping) and isinstance(it.get("content"), str) for it in messages)
