"""An explicit-state model checker: every interleaving of a few processes that share a store.

A process is a generator. It yields what it does to the store, one read or one transaction at a
time, and is sent what it read. Since a generator depends on nothing but what it was sent, those
answers *are* its state: the checker runs it anew to get to a place, and remembers each place once.

What a store may do in between is the checker's business. ``VISIBLE_IN_PARTS`` is a read-committed
server at its worst: a statement reads its parts one by one, and the parts of a transaction become
visible one by one, in any order; its locks are let go when all are. ``READ_COMMITTED``: they become
visible together. ``SERIALIZABLE``: a transaction is one step, whether it reads or writes.
A process may crash wherever it waits for the store; what it has committed becomes visible all the
same, and what it has not never does.

*Reduction.* A step is taken at once, before all others, if nothing that another process may ever
do can change what it gives, or be changed by it: a read of a place that is written once and has
been, a read of a place that nobody else writes, a lock that nobody else takes. Such a step alone
is a persistent set, and no property looks at it, so that all outcomes are still found.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, NamedTuple

__all__ = [
    "END",
    "Again",
    "Answer",
    "Begin",
    "Commit",
    "Isolation",
    "Lock",
    "Op",
    "Passed",
    "Process",
    "Program",
    "Read",
    "Report",
    "System",
    "Violation",
    "explore",
]


class Isolation(Enum):
    """What a store promises of its transactions."""

    VISIBLE_IN_PARTS = auto()
    READ_COMMITTED = auto()
    SERIALIZABLE = auto()


class Read(NamedTuple):
    """Read one place of the store, within a statement."""

    statement: str
    place: str


class Lock(NamedTuple):
    """Wait for a lock and take it, until the next ``Commit``."""

    statement: str
    name: str


class Commit(NamedTuple):
    """The end of a writing transaction: its parts, and their values. None: it is rolled back."""

    statement: str
    parts: tuple[tuple[str, Hashable], ...]


class End(NamedTuple):
    """The end of a statement that only reads."""


class Begin(NamedTuple):
    """A call begins: with what comes next, the moments that it may speak of are counted."""


class Passed(NamedTuple):
    """Time passes, in which all others may do what they like; ``last``: what comes after is no
    moment that the call speaks of."""

    what: str
    last: bool = False


class Answer(NamedTuple):
    """What a call gives: the properties say whether it may."""

    outcome: Hashable


class Again(NamedTuple):
    """The process goes on as if it began with this program: all else is forgotten."""

    program: Callable[..., Generator[Any, Any, None]]
    arguments: tuple[Any, ...]


END = End()
Op = Read | Lock | Commit | End | Begin | Passed | Answer | Again
Program = Callable[..., Generator[Op, Any, None]]


@dataclass(frozen=True)
class Process:
    """``writes``: all the places it may write; ``locks``: all it may take."""

    name: str
    program: Program
    arguments: tuple[Any, ...] = ()
    writes: frozenset[str] = frozenset()
    locks: frozenset[str] = frozenset()
    crashes: bool = False


@dataclass(frozen=True)
class System:
    """A store, what runs on it, and what must hold.

    ``immutable``: places that are written once. ``moment``: as much of a store as a property
    speaks of. ``allowed``: why an answer is wrong, given the moments during its call. ``written``:
    why this part must not become visible now. ``ended``: why a store must not be left so, when
    nobody will do any more. ``committed``, ``ghost``: what is noted, for the properties' sake, of a
    commit and of a part that becomes visible.
    """

    store: Mapping[str, Hashable]
    processes: Sequence[Process]
    moment: Callable[[Mapping[str, Any]], Hashable]
    allowed: Callable[[Any, frozenset[Any], Mapping[str, Any]], str | None]
    immutable: frozenset[str] = frozenset()
    written: Callable[[Mapping[str, Any], str, Any], str | None] = lambda store, place, value: None
    ended: Callable[[Mapping[str, Any]], str | None] = lambda store: None
    committed: Callable[[Mapping[str, Any]], Mapping[str, Hashable]] = lambda parts: {}
    ghost: Callable[[Mapping[str, Any], str, Any], Mapping[str, Hashable]] = (
        lambda store, place, value: {}
    )
    isolation: Isolation = Isolation.VISIBLE_IN_PARTS


class Violation(NamedTuple):
    """What is wrong, and the steps that lead there."""

    why: str
    steps: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([f"violated: {self.why}", *(f"  {step}" for step in self.steps)])


class Report(NamedTuple):
    """``statements``: all that any process ran."""

    states: int
    violation: Violation | None
    statements: frozenset[str]
    answers: frozenset[Any]


class _State(NamedTuple):
    """``places``: each process's, by number; ``pending``: parts not visible yet; ``locks``: who
    holds which; ``seen``: the moments of each call under way, and whether more are counted."""

    store: tuple[Hashable, ...]
    places: tuple[int, ...]
    pending: tuple[tuple[tuple[str, Hashable], ...], ...]
    locks: tuple[int | None, ...]
    seen: tuple[tuple[bool, frozenset[Any]] | None, ...]


_ENDED = None  # in place of what a process does next
_CRASHED = -1
_Next = tuple[str, _State]


class _Wrong(Exception):
    pass


@dataclass
class _Machine:
    """The places that a process has come to, by number."""

    process: Process
    _known: dict[tuple[Again | None, tuple[Any, ...]], int] = field(default_factory=dict)
    _at: list[tuple[Again, tuple[Any, ...], Op | None]] = field(default_factory=list)
    _after: dict[tuple[int, Any], int] = field(default_factory=dict)

    def start(self) -> int:
        return self._place(Again(self.process.program, self.process.arguments), ())

    def op(self, place: int) -> Op | None:
        """What it does next; None: it has ended."""
        return None if place == _CRASHED else self._at[place][2]

    def after(self, place: int, answer: Any) -> int:
        """Where it is once it was sent ``answer``."""
        if (known := self._after.get((place, answer))) is None:
            began, answers, _ = self._at[place]
            known = self._after[place, answer] = self._place(began, (*answers, answer))
        return known

    def _place(self, began: Again, answers: tuple[Any, ...]) -> int:
        op = self._run(began, answers)
        while isinstance(op, Again):
            began, answers = op, ()
            op = self._run(began, answers)
        key = (None, ()) if op is _ENDED else (began, answers)
        place = self._known.setdefault(key, len(self._at))
        if place == len(self._at):
            self._at.append((began, answers, op))
        return place

    def _run(self, began: Again, answers: tuple[Any, ...]) -> Op | None:
        run = began.program(*began.arguments)
        op: Op
        try:
            op = next(run)
            for answer in answers:
                op = run.send(answer)
        except StopIteration:
            return _ENDED
        finally:
            run.close()
        return op


class _Explorer:
    def __init__(self, system: System) -> None:
        self.system = system
        self.machines = [_Machine(process) for process in system.processes]
        self.names = list(system.store)
        self.index = {name: at for at, name in enumerate(self.names)}
        locks = sorted(frozenset().union(*(it.locks for it in system.processes)))
        self.lock_index = {name: at for at, name in enumerate(locks)}
        self.statements: set[str] = set()
        self.answers: set[Any] = set()
        self._moments: dict[tuple[Hashable, ...], Hashable] = {}
        self._foreign = [
            frozenset().union(*(o.writes for o in system.processes if o is not it))
            for it in system.processes
        ]
        self._contended = [
            frozenset().union(*(o.locks for o in system.processes if o is not it))
            for it in system.processes
        ]

    def first(self) -> _State:
        count = len(self.machines)
        return _State(
            tuple(self.system.store.values()),
            tuple(machine.start() for machine in self.machines),
            ((),) * count,
            (None,) * len(self.lock_index),
            (None,) * count,
        )

    def reached(self, state: _State) -> Iterator[_Next]:
        """The states that come next. Raises _Wrong."""
        ends = True
        for step, raw in self.successors(state):
            ends = False
            told, after = self.settled(raw, step)
            yield "; ".join(told), after
        if ends and (why := self.left_wrong(state)):
            raise _Wrong(why, [])

    def left_wrong(self, state: _State) -> str | None:
        """Why nothing more may happen yet."""
        for machine, place in zip(self.machines, state.places, strict=True):
            if machine.op(place) is not None:
                return f"{machine.process.name} waits for ever"
        return self.system.ended(self.named(state))

    def named(self, state: _State) -> dict[str, Any]:
        return dict(zip(self.names, state.store, strict=True))

    def successors(self, state: _State) -> Iterator[_Next]:
        """All that may happen next. Raises _Wrong."""
        for who in range(len(self.machines)):
            if state.pending[who]:
                yield from self._becoming_visible(state, who)
            else:
                yield from self._going_on(state, who)

    def settled(self, state: _State, *before: str) -> tuple[list[str], _State]:
        """After all steps that no other process has to do with. ``before``: what was told."""
        told = list(before)
        moving = True
        while moving:
            moving = False
            for who in range(len(self.machines)):
                while not state.pending[who] and self._is_nobody_elses(state, who):
                    state = self._step(state, who, told)
                    moving = True
        return told, state

    def _is_nobody_elses(self, state: _State, who: int) -> bool:
        match self.machines[who].op(state.places[who]):
            case Read(_, place):
                if place not in self._foreign[who]:
                    return True
                written = state.store[self.index[place]] is not None
                return written and place in self.system.immutable
            case Lock(_, name):
                return name not in self._contended[who]
            case End() | Answer() | Commit(_, ()):
                return True
        return False

    def _going_on(self, state: _State, who: int) -> Iterator[_Next]:
        machine = self.machines[who]
        op = machine.op(state.places[who])
        if op is None:
            return
        if machine.process.crashes:
            yield f"{machine.process.name}: crashes", self._crashed(state, who)
        if isinstance(op, Lock) and self._is_taken(state, op, who):
            return
        told: list[str] = []
        after = self._step(state, who, told)
        while not self._pauses(op):
            op = machine.op(after.places[who])
            if op is None or (isinstance(op, Lock) and self._is_taken(after, op, who)):
                break
            after = self._step(after, who, told)
        yield "; ".join(told), after

    def _pauses(self, op: Op | None) -> bool:
        """Whether others may do something after ``op``."""
        if isinstance(op, Begin):
            return False
        if self.system.isolation is Isolation.SERIALIZABLE:
            return not isinstance(op, Read | Lock)
        return True

    def _is_taken(self, state: _State, op: Lock, who: int) -> bool:
        return state.locks[self.lock_index[op.name]] not in (None, who)

    def _crashed(self, state: _State, who: int) -> _State:
        return state._replace(
            places=_with(state.places, who, _CRASHED),
            locks=tuple(None if owner == who else owner for owner in state.locks),
            seen=_with(state.seen, who, None),
        )

    def _step(self, state: _State, who: int, told: list[str]) -> _State:
        """After the next step of a process, which is ``told``."""
        machine = self.machines[who]
        op = machine.op(state.places[who])
        name = machine.process.name
        answer: Any = None
        match op:
            case Read(statement, place):
                self.statements.add(statement)
                answer = state.store[self.index[place]]
                told.append(f"{name}: {statement}: reads {place} = {_shown(answer)}")
            case Lock(statement, lock):
                self.statements.add(statement)
                state = state._replace(locks=_with(state.locks, self.lock_index[lock], who))
                told.append(f"{name}: {statement}: locks {lock}")
            case Commit(statement, parts):
                self.statements.add(statement)
                told.append(f"{name}: {statement}: {'commits' if parts else 'changes nothing'}")
                if extra := {place for place, _ in parts} - machine.process.writes:
                    raise AssertionError(f"{name} did not declare that it writes {sorted(extra)}")
                state = self._committed(state, who, parts, told)
            case Begin():
                seen = (True, frozenset([self._moment(state.store)]))
                state = state._replace(seen=_with(state.seen, who, seen))
            case Passed(what, last):
                told.append(f"{name}: {what}")
                if last and (under_way := state.seen[who]) is not None:
                    seen = (False, under_way[1])
                    state = state._replace(seen=_with(state.seen, who, seen))
            case Answer(outcome):
                told.append(f"{name}: {outcome}")
                state = self._answered(state, who, outcome, told)
        return state._replace(
            places=_with(state.places, who, machine.after(state.places[who], answer))
        )

    def _answered(self, state: _State, who: int, outcome: Any, told: list[str]) -> _State:
        under_way = state.seen[who]
        assert under_way is not None, f"{outcome} is the answer of a call that never began"
        self.answers.add(outcome)
        if why := self.system.allowed(outcome, under_way[1], self.named(state)):
            raise _Wrong(why, told)
        return state._replace(seen=_with(state.seen, who, None))

    def _committed(
        self, state: _State, who: int, parts: tuple[tuple[str, Hashable], ...], told: list[str]
    ) -> _State:
        state = self._noted(state, self.system.committed(dict(parts)))
        if parts and self.system.isolation is Isolation.VISIBLE_IN_PARTS:
            return state._replace(pending=_with(state.pending, who, tuple(sorted(parts))))
        for place, value in parts:
            state = self._write(state, place, value, told)
        return self._looked_at(self._released(state, who))

    def _becoming_visible(self, state: _State, who: int) -> Iterator[_Next]:
        name = self.machines[who].process.name
        parts = state.pending[who]
        for part in parts:
            place, value = part
            told = [f"{name}: {place} = {_shown(value)} becomes visible"]
            left = tuple(it for it in parts if it is not part)
            after = self._write(state, place, value, told)
            after = after._replace(pending=_with(state.pending, who, left))
            yield told[0], self._looked_at(after if left else self._released(after, who))

    def _write(self, state: _State, place: str, value: Hashable, told: list[str]) -> _State:
        before = self.named(state)
        if place in self.system.immutable and before[place] is not None:
            raise _Wrong(f"{place} was {_shown(before[place])}, and is written again", told)
        if why := self.system.written(before, place, value):
            raise _Wrong(why, told)
        return self._noted(state, {place: value, **self.system.ghost(before, place, value)})

    def _noted(self, state: _State, values: Mapping[str, Hashable]) -> _State:
        store = list(state.store)
        for place, value in values.items():
            store[self.index[place]] = value
        return state._replace(store=tuple(store))

    def _looked_at(self, state: _State) -> _State:
        """The calls under way take note of this moment."""
        if not any(seen is not None and seen[0] for seen in state.seen):
            return state
        now = self._moment(state.store)
        return state._replace(
            seen=tuple(
                seen if seen is None or not seen[0] or now in seen[1] else (True, seen[1] | {now})
                for seen in state.seen
            )
        )

    def _released(self, state: _State, who: int) -> _State:
        return state._replace(locks=tuple(None if owner == who else owner for owner in state.locks))

    def _moment(self, store: tuple[Hashable, ...]) -> Hashable:
        if (known := self._moments.get(store)) is None:
            known = self._moments[store] = self.system.moment(
                dict(zip(self.names, store, strict=True))
            )
        return known


def explore(system: System, *, most: int = 5_000_000) -> Report:
    """Go through all states, nearest first, up to the first violation."""
    explorer = _Explorer(system)
    before: dict[_State, tuple[_State | None, str]] = {}

    def report(violation: Violation | None) -> Report:
        found = frozenset(explorer.statements), frozenset(explorer.answers)
        return Report(len(before), violation, *found)

    def way_to(state: _State | None) -> list[str]:
        steps = []
        while state is not None:
            state, step = before[state]
            steps.append(step)
        return [step for step in reversed(steps) if step]

    told, first = explorer.settled(explorer.first())
    before[first] = (None, "; ".join(told))
    left = deque([first])
    while left:
        state = left.popleft()
        try:
            for step, after in explorer.reached(state):
                if after not in before:
                    before[after] = (state, step)
                    left.append(after)
        except _Wrong as wrong:
            why, steps = wrong.args
            return report(Violation(why, (*way_to(state), *steps)))
        if len(before) > most:
            raise AssertionError(f"more than {most} states; make the bounds smaller")
    return report(None)


def _with(items: tuple[Any, ...], index: int, item: Any) -> tuple[Any, ...]:
    return (*items[:index], item, *items[index + 1 :])


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)
