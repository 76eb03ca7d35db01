"""Judges runs of random programs. It knows the facts, what each reply was based on, and what each
act truly followed from; it knows nothing of guards, keys or stores.

Stale is
- an act whose effect began although what it rests on was, when a reply was given that it follows
  from, not as it was when the effect was checked;
- a reply that was served although what it rests on had changed since it was given.
Too much is a reply that was asked although nothing changed that it may rest on; and acts that are
refused again and again although nothing changes at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from execgraph.engine.errors import PreconditionChanged

from .programs import OWN, TOOLS, needed
from .script import Facet
from .telling import Act, Ask, Decided, Told
from .timeline import Timeline, as_before, believed, values

__all__ = ["Judge", "Wrong"]

_Task = tuple[str, str]
_KEPT = 8  # traces of a task
_PATIENCE = 3  # runs in a row that may be refused although nothing changes


class Wrong(AssertionError):
    """A run was not as it should be."""


@dataclass(frozen=True)
class _Use:
    """A decision as a published run has it: a reply, and what surely guards it there."""

    ask: Ask
    rests_on: frozenset[Facet]
    occurrence: int
    recorded: int  # how many runs of the task had been by then
    sure: bool  # it was published: a run that was torn is in part

    def fails_by(self, timeline: Timeline, mark: int) -> frozenset[Facet]:
        """What of it is not so any more, at any moment since then."""
        now = timeline.since(mark)
        return frozenset(
            it for it in self.rests_on if not believed(values(self.ask.read, it)) & values(now, it)
        )


class Judge:
    """What is known of all runs so far."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._uses: dict[str, list[_Use]] = defaultdict(list)
        self._may_guard: dict[str, set[Facet]] = defaultdict(set)
        self._past: dict[_Task, list[Told]] = defaultdict(list)
        self._recorded: Counter[_Task] = Counter()

    def judge(self, told: Told) -> None:
        """Raises Wrong."""
        self._went_well(told)
        self._learn_what_followed(told)
        for decided, occurrence in _occurrences(told.decided):
            if decided.ask is not None and told.replay:
                decided.ask.inherited = self._inherited(told, decided, occurrence)
        replies = {it: self._replies(it) for it in told.decided if it.handle is not None}
        for decided, some in replies.items():
            if decided.ask is None:
                _served_rightly(decided, some)
        for act in told.acts:
            for decided in act.follows:
                _began_rightly(told, act, decided, replies[decided], self._told_of(act, decided))
        self._asked_only_what_must_be(told)
        self._remember(told, replies)

    def forget(self) -> None:
        """Traces were collected: what is asked again is not too much."""
        self._past.clear()
        for task in self._recorded:
            self._recorded[task] += _KEPT

    # One run ------------------------------------------------------------------------------

    @staticmethod
    def _went_well(told: Told) -> None:
        if told.error is not None:
            if isinstance(told.error, PreconditionChanged) and not told.who.stubborn:
                return
            raise Wrong(f"{told.who} raised {told.error!r}") from told.error
        result = told.result
        if told.decided and result.replayed != (not told.asks):
            raise Wrong(f"replayed is {result.replayed} after {len(told.asks)} calls")
        if told.unfinished and result.recorded and any(_is_hidden(it) for it in told.acts):
            raise Wrong("a run was published, and an effect that it began is no step of it")
        for act in told.acts:
            if act.entered > 1 or (act.refused and act.entered):
                raise Wrong(f"{act.tool} ran {act.entered} times; refused: {act.refused}")
            if act.entered and dict(act.received) != act.given:
                raise Wrong(f"{act.tool} received {act.received}, and was given {act.given}")

    def _learn_what_followed(self, told: Told) -> None:
        own = {OWN} if told.who.own else set()
        for decided in told.decided:
            decided.may_guard |= own
        for act in told.acts:
            if TOOLS[act.tool][0] != "write":
                continue
            facets = _rests_on(told, act)
            for decided in act.follows if act.begun is not None and act.ended else ():
                decided.followed |= facets
            for decided in act.chosen:
                decided.may_guard |= facets
        for decided in told.decided:
            self._may_guard[decided.key] |= decided.may_guard

    def _inherited(self, told: Told, decided: Decided, occurrence: int) -> frozenset[Facet]:
        """What made that it was asked again, if that is beyond doubt."""
        uses = [it for it in self._uses[decided.key] if it.occurrence == occurrence]
        gone = self._recorded[_task(told)] - _KEPT
        if not any(it.sure and it.recorded > gone for it in uses):
            return frozenset()
        return frozenset.intersection(*(it.fails_by(self._timeline, told.began) for it in uses))

    def _replies(self, decided: Decided) -> list[Ask]:
        """The replies that it may be."""
        if decided.ask is not None:
            return [decided.ask]
        known = (use.ask for use in self._uses[decided.key])
        return list(dict.fromkeys(it for it in known if it.reply == decided.reply))

    def _told_of(self, act: Act, decided: Decided) -> set[Facet]:
        """What the program was told of, after this decision: an act was refused for it, and the
        program has decided anew since then."""
        known: set[Facet] = set()
        for other in act.run.acts:
            later = (it for it in act.chosen if other.moment < it.moment < act.moment)
            if other.refused and decided.moment < other.moment and any(later):
                known |= _rests_on(act.run, other)
                known |= {facet for it in act.run.decided for facet in self._may_guard[it.key]}
        return known

    # Many runs ----------------------------------------------------------------------------

    def _asked_only_what_must_be(self, told: Told) -> None:
        before = self._past[_task(told)][-2:]
        counts = [Counter(it.key for it in run.decided) for run in before]
        if len(before) < 2 or not told.replay:
            return
        if not all(
            it.clean and not it.moved and (it.version, it.who) == (told.version, told.who)
            for it in before
        ):
            self._not_refused_for_ever(told)
            return
        seen: Counter[str] = Counter()
        for decided in told.decided:
            seen[decided.key] += 1
            if decided.ask is None or seen[decided.key] > min(it[decided.key] for it in counts):
                continue
            if not self._may_have_changed(decided, before[0].began):
                why = ", ".join(map(str, told.result.miss)) if told.result else told.error
                raise Wrong(f"{decided.key} was asked again, and nothing has changed: {why}")

    def _may_have_changed(self, decided: Decided, mark: int) -> bool:
        window = self._timeline.since(mark)
        return any(
            len(known := values(window, it)) > 1 or not believed(known)
            for it in self._may_guard[decided.key]
        )

    def _not_refused_for_ever(self, told: Told) -> None:
        last = [*self._past[_task(told)], told][-_PATIENCE:]
        alike = all(it.refused and it.who == told.who and it.replay for it in last)
        calm = alike and len(self._timeline.since(last[0].began)) == 1
        now = self._timeline.since(last[0].began)
        facets = {it for act in told.acts if act.refused for it in _rests_on(told, act)}
        calm = calm and all(believed(values(now, it)) for it in facets)
        if len(last) == _PATIENCE and calm and last[0].version == told.version:
            raise Wrong(f"{told.who} is refused each time, and nothing changes")

    def _remember(self, told: Told, replies: dict[Decided, list[Ask]]) -> None:
        self._past[_task(told)] = [*self._past[_task(told)], told][-_PATIENCE:]
        if told.refused:  # traces whose decisions did not know enough may have been unpublished
            self._recorded[_task(told)] += _KEPT
        if told.result is None or not told.result.recorded:
            return
        self._recorded[_task(told)] += 1
        number = self._recorded[_task(told)]
        for decided, occurrence in _occurrences(replies):
            for ask in replies[decided]:
                rests_on = ask.rests_on | decided.followed
                use = _Use(ask, rests_on, occurrence, number, not told.moved)
                self._uses[decided.key].append(use)


def _task(told: Told) -> _Task:
    return told.who.name, told.who.task


def _occurrences(some: Iterable[Decided]) -> Iterator[tuple[Decided, int]]:
    """Decisions with how many of the same request came before."""
    seen: Counter[str] = Counter()
    for it in some:
        yield it, seen[it.key]
        seen[it.key] += 1


def _rests_on(told: Told, act: Act) -> set[Facet]:
    return set(needed(act.tool, told.version, act.given)) | ({OWN} if told.who.own else set())


def _is_hidden(act: Act) -> bool:
    """Whether its effect was begun before the block ended, and it did not come to its end."""
    return act.begun_inside and not act.ended


def _served_rightly(decided: Decided, replies: Iterable[Ask]) -> None:
    """There was a moment since the run began at which all was as it had been for the reply."""
    if not replies:
        raise Wrong(f"{decided.key} was served {decided.reply}, which no published run was told")
    for ask in replies:
        for moment in decided.served:
            if all(believed(values(ask.read, it)) & values([moment], it) for it in ask.rests_on):
                return
    raise Wrong(f"{decided.key} was served though what it rests on has changed")


def _began_rightly(
    told: Told, act: Act, decided: Decided, replies: Iterable[Ask], known: set[Facet]
) -> None:
    """What it rests on was, when it was checked, as when it was decided; what is ``known`` to
    have changed since then aside."""
    if act.begun is None:
        return
    facets = _rests_on(told, act)
    for ask in replies:
        same = ask is decided.ask
        before = {it: values(ask.around if same else ask.read, it) for it in facets}
        guards = {it: believed(values(ask.read, it)) for it in ask.rests_on if not same}
        then = before | {it: values(ask.around, it) for it in ask.rests_on if same} | guards
        if all(it in known or as_before(some, values(act.begun, it)) for it, some in then.items()):
            return
    raise Wrong(
        f"{act.tool} {act.given} was done on the word of {decided.key}, given before"
        " what they rest on changed"
    )
