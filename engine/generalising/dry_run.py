"""What runs would have cost under other marks: which decisions a recording would have served.

Nothing is guessed of a text: each request is derived as the engine derives it, and served if an
earlier run had made an equal one. If the earlier run was given another reply, the values that
differed between the two were reasoned about, and the marks are refuted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ...graphstore.model import FacetRef, Step
from ..errors import ConfigurationError
from ..keys.standins import NoStandIn
from .past_run import Marking, PastRun, Request, StillShown

__all__ = ["DryRun", "Refuted", "dry_run"]


class Refuted(Exception):
    """The marks would have had a run served with what is not its own. ``values``: those to blame,
    if it is known."""

    def __init__(self, one: int, other: int, position: int, values: Collection[Any] = ()) -> None:
        self.runs = (one, other)
        self.position = position
        self.values = values
        super().__init__(f"runs {one} and {other} differ at step {position}")


class _Known(NamedTuple):
    """A decision that a recording would serve. ``run``: by its place among all. ``real_key``: as it
    is recorded. ``code``: what carried out its calls; ``facets``: on what these and it rest."""

    run: int
    request: Request
    real_key: str
    code: frozenset[str]
    facets: frozenset[FacetRef]


@dataclass
class DryRun:
    """What would have been served. Runs are named by their places among all.

    ``served``: of each run, the positions of decisions that it asked and a recording would have
    served. ``whole``: the runs that would have asked nothing. ``shared``: for each request that
    several runs would have made, those runs, with the position that it has in them.
    """

    served: dict[int, list[int]] = field(default_factory=dict)
    whole: set[int] = field(default_factory=set)
    shared: dict[tuple[str, int], dict[int, int]] = field(default_factory=dict)


def dry_run(
    runs: Sequence[PastRun], marking: Marking, but: Mapping[int, Sequence[int]] | None = None
) -> DryRun:
    """What would have been served of ``runs``, the oldest first. ``but``: what recordings would
    have served as things were, and did not for other reasons. Raises Refuted."""
    outcome, known = DryRun(), dict[tuple[str, int], _Known]()
    for number, run in enumerate(runs):
        served = [
            it.request.step.position
            for it in _decisions(run, number, marking)
            if _is_served(it, known, outcome)
        ]
        asked = [it for it in served if it in run.asked and it not in (but or {}).get(number, ())]
        if asked:
            outcome.served[number] = asked
        if asked and set(served) >= run.asked and run.execution.complete:
            outcome.whole.add(number)
    return outcome


def _decisions(run: PastRun, number: int, marking: Marking) -> Iterator[_Known]:
    real = {it.position: it.key for it in run.decisions}
    chosen = _chosen(run)
    try:
        for request in run.requests(marking):
            position = request.step.position
            if not request.is_read_back:
                raise Refuted(number, number, position)
            actions = chosen[position]
            guards = {*request.step.guards, *(guard for it in actions for guard in it.guards)}
            facets = frozenset(run.facets[it] for it in guards)
            code = frozenset(it.code_key for it in actions)
            yield _Known(number, request, real[position], code, facets)
    except (NoStandIn, ConfigurationError):
        raise Refuted(number, number, len(run.steps)) from None
    except StillShown as shown:
        raise Refuted(number, number, len(run.steps), shown.values) from None


def _chosen(run: PastRun) -> Mapping[int, Sequence[Step]]:
    """The actions that each decision chose, or that a program carried out after it."""
    found: dict[int, list[Step]] = {it.position: [] for it in run.decisions}
    for action in run.actions:
        behind = [it for it in found if it < action.position]
        position = action.decision if action.decision is not None else max(behind, default=None)
        if position is not None:
            found[position].append(action)
    return found


def _is_served(now: _Known, known: dict[tuple[str, int], _Known], outcome: DryRun) -> bool:
    """Whether a recording would have served a decision; it is known from now on."""
    step = now.request.step
    place = (now.request.key, step.occurrence)
    earlier = known.setdefault(place, now)
    if earlier is now:
        return False
    is_same = earlier.request.reply == now.request.reply
    if not is_same or earlier.facets != now.facets:
        if earlier.real_key != now.real_key and (not is_same or earlier.code == now.code):
            raise Refuted(earlier.run, now.run, step.position)
        return False
    if earlier.request.step.guards != step.guards or earlier.code != now.code:
        known[place] = now  # facts or code had changed: it was asked for another reason
        return False
    runs = outcome.shared.setdefault(place, {earlier.run: earlier.request.step.position})
    runs[now.run] = step.position
    return True
