"""What must happen, by a small model of its own: facts, published traces with their guards, and
which decisions must be asked. It knows nothing of stores, graphs, payloads or keys.

Written from docs/algorithm.md; it shares no code with the engine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from .script import (
    AGENTS,
    PROGRAM,
    REFUSED,
    TOOLS,
    Call,
    Facet,
    Tool,
    facets,
    question,
    received,
    think,
    tokens,
)

__all__ = ["Expected", "Facts", "Meanwhile", "Oracle", "Senses", "behave", "part_of"]

NEVER = "never"
KEPT = 8  # traces of a task
Document = Mapping[str, Any]


def part_of(document: Document, part: str | None) -> str:
    """What a selector picks out of a document of the histories, evaluated by hand."""
    match part:
        case None:
            return repr(_sorted(document))
        case "$.on" | "$.limit":
            return repr(document.get(part[2:], "nothing"))
        case "$.items['eu']" | "$.items['us']" | "$.items['a']" | "$.items['b']":
            return repr(document["items"].get(part[9:-2], "nothing"))
        case "$.rows[*].id":
            return repr([row["id"] for row in document["rows"] if "id" in row])
    raise AssertionError(part)


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return sorted((key, _sorted(item)) for key, item in value.items())
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@dataclass
class Facts:
    """What each resource was, version by version, and whether the last one is believed."""

    versions: dict[str, tuple[Document | None, ...]] = field(default_factory=dict)
    doubted: set[str] = field(default_factory=set)

    def copy(self) -> Facts:
        return Facts(dict(self.versions), set(self.doubted))

    def version(self, uri: str) -> int:
        return len(self.versions.get(uri, ()))

    def document(self, uri: str) -> Document | None:
        """The current one, believed or not."""
        known = self.versions.get(uri)
        return known[-1] if known else None

    def change(self, uri: str, document: Document | None, *, believed: bool = True) -> bool:
        """Whether that is another version."""
        if document is not None:
            self.doubted.discard(uri)
            if not believed:
                self.doubted.add(uri)
        known = self.versions.get(uri, ())
        if (document is None and not known) or (known and _equal(known[-1], document)):
            return False
        self.versions[uri] = (*known, document)
        return True

    def believed(self, uri: str) -> bool:
        return self.document(uri) is not None and uri not in self.doubted

    def at(self, facet: Facet) -> str:
        """The fingerprint that a facet has now."""
        document = self.document(facet.uri)
        if document is None or facet.uri in self.doubted:
            return NEVER
        return part_of(document, facet.part)

    def holds(self, guard: Guard) -> bool:
        return guard.at != NEVER and self.at(guard.facet) == guard.at

    def unbroken(self, note: Note) -> bool:
        """Whether each version since the note holds what was noted."""
        later = self.versions.get(note.facet.uri, ())[note.version :]
        return all(it is not None and part_of(it, note.facet.part) == note.at for it in later)


def _equal(one: Document | None, other: Document | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other


class Guard(NamedTuple):
    facet: Facet
    at: str


class Note(NamedTuple):
    facet: Facet
    at: str
    version: int

    @property
    def guard(self) -> Guard:
        return Guard(self.facet, self.at)


Notes = dict[Facet, Note]


@dataclass
class Senses:
    """What tools find outside: readings, and the documents as they are."""

    readings: dict[str, int]
    document: Callable[[str], Document | None]


def behave(tool: Tool, arguments: Mapping[str, Any], senses: Senses) -> Any:
    """What a tool gives."""
    match tool.name:
        case "probe":
            return senses.readings[arguments["name"]]
        case "peek":
            document = senses.document(f"schema:{arguments['name']}")
            return None if document is None else document.get("limit")
        case "price":
            document = senses.document("schema:prices")
            price = None if document is None else document["items"].get(arguments["item"])
            return price if price is None or tool.version == "1" else price + 10
        case "square":
            return arguments["n"] ** 2
        case _:
            return f"{tool.name}: {' '.join(map(str, arguments.values()))}"


@dataclass(frozen=True)
class Step:
    """``turn``: which decision it is, or belongs to; ``number``: of the call (-1: a decision)."""

    key: tuple[Any, ...]
    occurrence: int
    code: Any  # None: whatever it was made by is part of its key
    guards: frozenset[Guard]
    output: Any
    turn: int
    number: int = -1
    level: int = 0  # steps of one level do not follow from each other
    tokens: int = 0
    tool: Tool | None = None
    chosen: bool = True  # by a decision of an agent
    knew: Facts | None = field(default=None, compare=False)  # what was when it was asked

    @property
    def signature(self) -> tuple[Any, ...]:
        return (self.key, self.occurrence, repr(self.output), self.guards)

    @property
    def place(self) -> tuple[Any, int]:
        return (self.key, self.occurrence)


@dataclass(eq=False)
class Trace:
    steps: tuple[Step, ...]
    complete: bool
    id: str = ""

    @property
    def signature(self) -> frozenset[Any]:
        return frozenset(step.signature for step in self.steps)

    @property
    def uris(self) -> set[str]:
        return {guard.facet.uri for step in self.steps for guard in step.guards}

    def marks(self, facts: Facts) -> set[int]:
        """The positions of invalid steps: what does not hold, and all that follows from it."""
        fallen = [
            step.level
            for step in self.steps
            if not all(facts.holds(guard) for guard in step.guards)
        ]
        first = min(fallen, default=None)
        return {
            position
            for position, step in enumerate(self.steps)
            if not all(facts.holds(guard) for guard in step.guards)
            or (first is not None and step.level > first)
        }


@dataclass(frozen=True)
class Judged:
    """A recorded step: whether it stands, and what of its guards does not hold."""

    trace: Trace
    step: Step
    code_changed: bool
    failing: tuple[Facet, ...]
    notes: tuple[Note, ...]

    @property
    def stands(self) -> bool:
        return not self.code_changed and not self.failing

    def under(self, facts: Facts) -> Judged:
        if self.code_changed:
            return self
        return replace(
            self, failing=_failing(self.step, facts), notes=_noted(self.step.guards, facts)
        )


def _chose(decision: Step, at: int, write_at: int, write: Step) -> bool:
    """Whether a recorded decision chose a write, or may have."""
    if write.chosen:
        return decision.turn == write.turn
    return at < write_at and write.guards <= decision.guards


def _failing(step: Step, facts: Facts) -> tuple[Facet, ...]:
    return tuple(guard.facet for guard in step.guards if not facts.holds(guard))


def _noted(guards: Iterable[Guard], facts: Facts) -> tuple[Note, ...]:
    return tuple(Note(it.facet, it.at, facts.version(it.facet.uri)) for it in guards)


@dataclass
class Remembered:
    """A trace that stands to its end, in the memory of a process."""

    trace: Trace
    accepted: dict[str, int]


@dataclass
class Meanwhile:
    """Changes that land in the middle of an execute: ``lookup``, ``ask`` or ``effect``."""

    point: str
    changes: tuple[tuple[str, Document | None], ...]
    landed: bool = False


@dataclass(frozen=True)
class Expected:
    """What an execute must come to."""

    output: Any
    calls: int
    done: tuple[tuple[str, tuple[Any, ...]], ...]  # the tools that ran, sorted
    tokens: int
    saved: int
    recorded: bool
    replayed: bool


class Refusal(Exception):
    """A write of a program was refused."""


class _AskAgain(Exception):
    def __init__(self, moved: Sequence[Note]) -> None:
        self.guards = {note.guard for note in moved}
        self.facets = tuple(dict.fromkeys(note.facet for note in moved))


Task = tuple[str, tuple[tuple[str, str], ...]]


class Oracle:
    """``snapshots``: a lookup sees what was when it began, else what is when it ends."""

    def __init__(self, readings: dict[str, int], *, snapshots: bool) -> None:
        self.facts = Facts()
        self.snapshots = snapshots
        self.senses = Senses(readings, self.facts.document)
        self.code = [dict.fromkeys(TOOLS, "1") | {"agents": "1"} for _ in range(2)]
        self.memory: list[dict[Any, Remembered | Trace]] = [{}, {}]
        self.traces: dict[Task, list[Trace]] = defaultdict(list)
        self.gone: list[Trace] = []
        self.tokens = self.saved = self.executions = 0

    def restart(self, process: int) -> None:
        self.memory[process] = {}

    def tool(self, process: int, name: str) -> Tool:
        return TOOLS[name][self.code[process][name]]

    def execute(
        self,
        process: int,
        task: Task,
        *,
        replay: bool = True,
        meanwhile: Meanwhile | None = None,
    ) -> Expected:
        """What an execute comes to; the last trace is the one it recorded, if it did."""
        run = _Run(self, process, task, replay=replay, meanwhile=meanwhile)
        expected = run.program() if task[0] == PROGRAM.name else run.converse()
        if meanwhile is not None and not meanwhile.landed:
            run.land()
        self.tokens += expected.tokens
        self.saved += expected.saved
        self.executions += 1
        return expected

    def publish(self, task: Task, trace: Trace) -> None:
        self.traces[task].append(trace)
        self.keep(task, KEPT)

    def keep(self, task: Task, traces: int) -> None:
        self.gone += self.traces[task][:-traces]
        del self.traces[task][:-traces]


class _Run:
    """One execute: a plan, a path while all is as recorded, then each step by its key."""

    def __init__(
        self, oracle: Oracle, process: int, task: Task, *, replay: bool, meanwhile: Meanwhile | None
    ) -> None:
        self.oracle, self.process, self.task = oracle, process, task
        self.facts = oracle.facts
        self.inputs = dict(task[1])
        self.agent = AGENTS.get(task[0], PROGRAM)
        self.code = (task[0], oracle.code[process]["agents"])
        self.own = facets(self.agent.requires, self.inputs, {})
        self.may_serve = replay
        self.meanwhile = meanwhile
        self.taken: list[Step] = []
        self.copied: list[bool] = []
        self.saved_by: list[int] = []  # tokens saved, by step
        self.known_by: list[Notes] = []  # what was known before each step
        self.rests: list[tuple[Note, ...]] = []  # what must hold for what follows from it
        self.served: list[bool] = []
        self.effects: set[int] = set()  # positions
        self.since = self.refused = 0  # the steps before are history
        self.open: dict[int, list[Note]] = {}  # by position, what is to be confirmed
        self.broken: list[tuple[int, Guard]] = []  # what did not hold all through a step
        self.unpublishable = False
        self.calls = self.paid = 0
        self.done: list[tuple[str, tuple[Any, ...]]] = []
        self.asked = False
        self.judged: tuple[Judged, ...] = ()
        self.order: list[tuple[Judged, ...]] = []
        self.known: list[Trace] = []
        self.from_memory = False
        self.best = self._plan() if replay else None
        self.path: int | None = None
        if self.best is not None and self.agent is not PROGRAM:
            self.path = 0
        self.followed: tuple[Judged, ...] = self.judged if self.path is not None else ()
        self.began_with = self.best

    # Changes meanwhile --------------------------------------------------------------------

    def land(self) -> None:
        assert self.meanwhile is not None
        self.meanwhile.landed = True
        for uri, document in self.meanwhile.changes:
            self.facts.change(uri, document)

    def _may_land(self, point: str) -> bool:
        it = self.meanwhile
        return it is not None and not it.landed and it.point == point

    # The plan -----------------------------------------------------------------------------

    @property
    def memory_key(self) -> Any:
        code = self.oracle.code[self.process]
        names = self.agent.tools or TOOLS
        return (self.task, code["agents"], tuple(code[name] for name in names))

    def _plan(self) -> Trace | None:
        memory = self.oracle.memory[self.process]
        known = memory.get(self.memory_key)
        if isinstance(known, Remembered):
            if self._still(known):
                self.from_memory = True
                self.known = [known.trace]
                self.judged = self._judge(known.trace, self.facts)
                self.order = [self.judged]
                return known.trace
            del memory[self.memory_key]
            known = None
        best = self._look_up(known)
        if best is not None and all(it.stands for it in self.judged):
            accepted = {uri: self.seen.version(uri) for uri in best.uris}
            memory[self.memory_key] = Remembered(best, accepted)
        return best

    def _still(self, known: Remembered) -> bool:
        return known.trace in self.oracle.traces[self.task] and all(
            self.facts.version(uri) == version and self.facts.believed(uri)
            for uri, version in known.accepted.items()
        )

    def _look_up(self, prefer: Trace | None) -> Trace | None:
        """Judge all traces; the one with the longest prefix that stands comes first."""
        self.from_memory = False
        traces = self.oracle.traces[self.task][::-1]
        self.seen = self.facts
        if self._may_land("lookup") and traces:
            before = self.facts.copy()
            self.land()
            self.seen = before if self.oracle.snapshots else self.facts
        judged = {trace: self._judge(trace, self.seen) for trace in traces}
        best = max(traces, key=lambda it: self._rank(it, judged[it], prefer), default=None)
        self.known = traces
        self.judged = judged[best] if best is not None else ()
        self.order = [self.judged, *(judged[it] for it in traces if it is not best)]
        return best

    @staticmethod
    def _rank(trace: Trace, judged: Sequence[Judged], prefer: Trace | None) -> tuple[float, bool]:
        prefix = next((n for n, it in enumerate(judged) if not it.stands), len(judged))
        if prefix == len(judged) and trace.complete:
            return float("inf"), trace is prefer
        return prefix, False

    def _judge(self, trace: Trace, facts: Facts) -> tuple[Judged, ...]:
        """With code: of a decision that chose a write, the terms of that write too."""
        changed = [
            (at, step)
            for at, step in enumerate(trace.steps)
            if step.tool is not None
            and (now := self.oracle.tool(self.process, step.tool.name)).effect == "write"
            and now.terms != step.tool.terms
        ]
        chose = {
            at
            for at, step in enumerate(trace.steps)
            if step.tool is None and any(_chose(step, at, *write) for write in changed)
        }
        return tuple(
            Judged(
                trace,
                step,
                self._code_changed(step) or at in chose,
                _failing(step, facts),
                _noted(step.guards, facts),
            )
            for at, step in enumerate(trace.steps)
        )

    def _code_changed(self, step: Step) -> bool:
        if step.tool is None:
            return step.code is not None and step.code != self.code
        return step.tool != self.oracle.tool(self.process, step.tool.name)

    # Notes --------------------------------------------------------------------------------

    def _take(self, wanted: Iterable[Facet]) -> Notes:
        """Read facts: note these, and confirm the steps that have ended."""
        notes = {it: Note(it, self.facts.at(it), self.facts.version(it.uri)) for it in wanted}
        if notes:
            self._settle()
        return notes

    def _settle(self) -> None:
        self.broken += [
            (position, note.guard)
            for position, notes in self.open.items()
            for note in notes
            if not self.facts.unbroken(note)
        ]
        self.open.clear()

    def _ended(self, position: int, notes: Iterable[Note]) -> None:
        if kept := [note for note in notes if note.at != NEVER]:
            self.open.setdefault(position, []).extend(kept)

    # Decisions ----------------------------------------------------------------------------

    def _occurrence(self, key: Any) -> int:
        return sum(step.key == key for step in self.taken)

    def _find(self, key: Any, occurrence: int) -> Judged | None:
        if not self.may_serve:
            return None
        found = self._found(key, occurrence)
        if (found is None or not found.stands) and self.from_memory:
            self._look_up(None)
            found = self._found(key, occurrence)
        return found

    def _found(self, key: Any, occurrence: int) -> Judged | None:
        found = [it for judged in self.order for it in judged if it.step.place == (key, occurrence)]
        found.sort(key=lambda it: not it.stands)
        if self.asked and found:
            notes = self._take({guard.facet for it in found for guard in it.step.guards})
            found = [it.under(self.facts) if notes else it for it in found]
        return next((it for it in found if it.stands), found[0] if found else None)

    def _add(
        self,
        step: Step,
        *,
        copied: bool,
        saved: int = 0,
        known: Notes | None = None,
        served: bool = False,
        rests: Iterable[Note] | None = None,
    ) -> None:
        """``known``: what was noted for it; ``rests``: what of it must hold, if not all."""
        self.taken.append(step)
        self.copied.append(copied)
        self.saved_by.append(saved)
        self.known_by.append(known or {})
        self.rests.append(tuple((known or {}).values() if rests is None else rests))
        self.served.append(served)

    def _decide(self, key: Any, reply: Any, cost: int, turn: int, again: _AskAgain | None) -> Notes:
        """Take the decision of this key; what was noted for its calls."""
        refused = self.refused
        noted = self._decided(key, reply, cost, turn, again)
        self.since = max(self.since, refused)
        return noted

    def _decided(
        self, key: Any, reply: Any, cost: int, turn: int, again: _AskAgain | None
    ) -> Notes:
        inherited: tuple[Facet, ...] = again.facets if again is not None else ()
        if self.path is not None:
            recorded = self.followed[self.path] if self.path < len(self.followed) else None
            if recorded is not None and recorded.stands:
                known = {note.facet: note for note in recorded.notes}
                saved = recorded.step.tokens
                self._add(recorded.step, copied=True, saved=saved, known=known, served=True)
                self.path += 1
                return known
            self.path = None
            inherited = recorded.failing if recorded is not None else ()
        occurrence = self._occurrence(key)
        found = self._find(key, occurrence)
        level = 1 + max((step.level for step in self.taken), default=-1)
        if found is not None and found.stands:
            step = replace(found.step, turn=turn, level=level)
            known = {note.facet: note for note in found.notes}
            self._add(step, copied=False, saved=step.tokens, known=known, served=True)
            return known
        if found is not None:
            inherited = (*inherited, *found.failing)
        own = (*self.own, *inherited)
        before = self._take((*own, *self._offered()))
        knew = self.facts.copy()
        self.asked = True
        self.calls += 1
        self.paid += cost
        if self._may_land("ask"):
            self.land()
        position = len(self.taken)
        self._ended(position, before.values())
        calls = reply if isinstance(reply, list) else []
        needed = [(call, self._needed(call)) for call in calls]
        extra = self._take(facet for _, some in needed for facet in some)
        noted = {**extra, **before}
        chosen = [
            facet
            for call, some in needed
            if self.oracle.tool(self.process, call.tool).effect == "write"
            for facet in some
        ]
        self._ended(position, (noted[it] for it in dict.fromkeys(chosen) if it not in before))
        rests = [noted[it] for it in dict.fromkeys((*own, *chosen))]
        guards = frozenset(note.guard for note in rests)
        code = None if self.agent is PROGRAM else self.code
        step = Step(key, occurrence, code, guards, repr(reply), turn, level=level, tokens=cost)
        self._add(replace(step, knew=knew), copied=False, known=noted, rests=rests)
        return noted

    def _offered(self) -> list[Facet]:
        """What the offered writes require whatever their arguments."""
        offered = self.agent.tools or tuple(TOOLS)
        return [
            facet
            for name in offered
            if (tool := self.oracle.tool(self.process, name)).effect == "write"
            for need in tool.requires
            if "{" not in (text := f"{need.uri}{need.part}").replace("{task.", "")
            and (("{task.") not in text or "user" in self.inputs)
            for facet in facets([need], self.inputs, {})
        ]

    def _needed(self, call: Call) -> tuple[Facet, ...]:
        tool = self.oracle.tool(self.process, call.tool)
        return facets(tool.requires, self.inputs, dict(call.arguments))

    # Actions ------------------------------------------------------------------------------

    def _act(
        self,
        calls: Sequence[Call],
        noted: Notes,
        turn: int,
        *,
        final: bool,
        chose: Sequence[int],
        chosen: bool = True,
    ) -> list[Any]:
        """Carry out all calls of a reply, and what they give; ``chose``: the decisions behind."""
        jobs = [self._job(call, turn, number) for number, call in enumerate(calls)]
        level = 1 + max((step.level for step in self.taken), default=-1)
        self._note(jobs, noted)
        gate = _Gate(final, chose)
        for job in jobs:
            self._carry_out(job, gate)
        if gate.moved and not gate.begun and not final:
            raise _AskAgain(gate.moved)
        for number, job in enumerate(jobs):
            position = len(self.taken)
            step = Step(
                job.key,
                job.occurrence,
                None,
                frozenset(note.guard for note in job.notes),
                job.output,
                turn,
                number,
                level,
                tool=job.tool,
                chosen=chosen,
            )
            if job.copied and job.recorded is not None:
                step = job.recorded.step
            reused = not job.ran and job.same
            known = {note.facet: note for note in job.notes}
            self._add(step, copied=job.copied, known=known, served=reused)
            if job.ran and not job.copied:
                self._ended(position, job.notes)
            if job.ran and job.tool.effect == "write":
                self.effects.add(position)
        if self.path is not None and all(job.followed and job.same for job in jobs):
            self.path += len(jobs)
        else:
            self.path = None
        if gate.moved:
            self.unpublishable = self.asked = True
            self.refused = len(self.taken)
        return [job.output for job in jobs]

    def _job(self, call: Call, turn: int, number: int) -> _Job:
        tool = self.oracle.tool(self.process, call.tool)
        needs = self._needed(call) + (self.own if tool.effect == "write" else ())
        key = (tool, call.arguments)
        if self.path is not None:
            for it in self.followed:
                if (it.step.turn, it.step.number) == (turn, number):
                    return _Job(tool, call, key, it.step.occurrence, needs, it, followed=True)
        occurrence = self._occurrence(key)
        return _Job(tool, call, key, occurrence, needs, self._find(key, occurrence))

    def _note(self, jobs: Sequence[_Job], noted: Notes) -> None:
        fresh = []
        for job in jobs:
            if job.recorded is not None and job.recorded.stands and not self.asked:
                job.notes = job.recorded.notes
            else:
                fresh.append(job)
        taken = self._take(it for job in fresh for it in job.needs if it not in noted)
        for job in fresh:
            job.notes = tuple({**noted, **taken}[it] for it in dict.fromkeys(job.needs))

    def _carry_out(self, job: _Job, gate: _Gate) -> None:
        recorded = job.recorded
        if job.tool.effect == "pure" and recorded is not None and recorded.stands:
            job.output, job.same, job.copied = recorded.step.output, True, job.followed
            return
        if job.tool.effect == "write" and not self._begin(job, gate):
            job.output = REFUSED
            return
        given = received(job.call)
        self.done.append((job.call.tool, tuple(given.values())))
        job.ran = True
        job.output = behave(job.tool, given, self.oracle.senses)
        job.same = recorded is not None and recorded.step.output == job.output
        job.copied = job.same and job.followed and recorded is not None and recorded.stands

    def _begin(self, job: _Job, gate: _Gate) -> bool:
        """Whether all that a write rests on is still as it was noted."""
        if gate.moved and not gate.begun and not gate.final:
            return False
        if doubted := self._doubted(job, gate):
            gate.moved += doubted
            return False
        if self._may_land("effect"):
            self.land()
        moved = [note for note in self._stands_on(job, gate) if not self._same(note)]
        if all(note.at == NEVER for note in moved) and not any(map(self._replaced, moved)):
            moved = []  # it may be believed again, and is what it was
        gate.moved += moved
        gate.begun = gate.begun or not moved
        return not moved

    def _doubted(self, job: _Job, gate: _Gate) -> list[Note]:
        """Facts that a decision behind a write may not have known; its recordings serve no more."""
        doubted = []
        for at in gate.chose:
            unknown = [
                note
                for note in job.notes
                if note.facet not in self.known_by[at] and not self._held_since(at, note)
            ]
            if unknown and self.served[at]:
                place = self.taken[at].place
                traces = self.oracle.traces[self.task]
                for trace in [it for it in traces if place in {s.place for s in it.steps}]:
                    traces.remove(trace)
                    self.oracle.gone.append(trace)
            doubted += unknown
        return doubted

    def _held_since(self, at: int, note: Note) -> bool:
        knew = self.taken[at].knew
        if knew is None:
            return False
        version = knew.version(note.facet.uri)
        if note.at == NEVER:
            return version == self.facts.version(note.facet.uri) and knew.at(note.facet) == NEVER
        return version > 0 and self.facts.unbroken(note._replace(version=version - 1))

    def _stands_on(self, job: _Job, gate: _Gate) -> list[Note]:
        known = (self.known_by[at] for at in gate.chose)
        served = (at for at in range(self.since, len(self.taken)) if self.served[at])
        return [
            *job.notes,
            *(noted[it.facet] for noted in known for it in job.notes if it.facet in noted),
            *(note for at in (*gate.chose, *served) for note in self.rests[at]),
        ]

    def _replaced(self, note: Note) -> bool:
        return self.facts.version(note.facet.uri) != note.version

    def _same(self, note: Note) -> bool:
        if note.at == NEVER:
            return self.facts.at(note.facet) == NEVER and not self._replaced(note)
        return self.facts.at(note.facet) == note.at

    # Whole runs ---------------------------------------------------------------------------

    def converse(self) -> Expected:
        rounds: list[tuple[Any, ...]] = []
        tries: Counter[int] = Counter()
        again: _AskAgain | None = None
        while True:
            turn, start = len(rounds), len(self.taken)
            reply = think(self.agent.name, self.inputs, rounds)
            key = ("?", self.code, self.task[1], tuple(rounds))
            noted = self._decide(key, reply, sum(tokens(turn)), turn, again)
            again = None
            if isinstance(reply, str):
                return self._finish(reply)
            try:
                final = tries[start] == 2
                rounds.append(tuple(self._act(reply, noted, turn, final=final, chose=[start])))
            except _AskAgain as moved:
                tries[start] += 1
                again = moved
                del rounds[self._go_back(start, moved) :]

    def _go_back(self, start: int, moved: _AskAgain) -> int:
        """Forget what fell before an effect of the decision at ``start``; the turn it begins."""
        history = max(self.effects, default=-1) + 1
        decisions = {it.turn: at for at, it in enumerate(self.taken) if it.tool is None}
        fallen = [
            decisions[self.taken[at].turn]
            for at in range(self.since, len(self.taken))
            if self.served[at] and moved.guards & {note.guard for note in self.rests[at]}
        ]
        back = min([start, *(at for at in fallen if at >= history)])
        if any(at < history for at in fallen):
            self.unpublishable = True
            self.since = back
        turn = self.taken[back].turn
        self._forget(back)
        return turn

    def _forget(self, start: int) -> None:
        for kept in (
            self.taken, self.copied, self.saved_by, self.known_by, self.rests, self.served,
        ):  # fmt: skip
            del kept[start:]
        self.open = {at: notes for at, notes in self.open.items() if at < start}
        self.broken = [it for it in self.broken if it[0] < start]
        self.path = None
        self.asked = True

    def program(self) -> Expected:
        state = self._one(Call("probe", (("name", "eu"),)), [])
        answers = [self._answer(question(state, None)) for _ in range(2)]  # asked twice
        deployed = None
        if state != 2:
            opened = len(self.taken) - 1  # the program looks at the second answer
            deployed = self._one(Call("deploy", (("target", "eu"),)), [opened])
            self._guard(opened, self.taken[-1].guards)
        last = self._answer(question(state, deployed))
        return self._finish({"answers": [*answers, last]})

    def _one(self, call: Call, chose: Sequence[int]) -> Any:
        noted = {} if not chose else self.known_by[chose[0]]
        turn = len(self.taken)
        return self._act([call], noted, turn, final=True, chose=chose, chosen=False)[0]

    def _answer(self, asked: Mapping[str, Any]) -> str:
        reply = f"{asked['question']} {asked['state']}"
        self._decide(("?", *asked.items()), reply, 0, len(self.taken), None)
        return reply

    def _guard(self, position: int, guards: frozenset[Guard]) -> None:
        """What guards a write guards the decision before it."""
        step = self.taken[position]
        self.taken[position] = replace(step, guards=step.guards | guards)

    def _finish(self, output: Any) -> Expected:
        recorded = self._record()
        saved = sum(self.saved_by)
        self.done.sort()
        return Expected(
            output, self.calls, tuple(self.done), self.paid, saved, recorded, self.calls == 0
        )

    def _record(self) -> bool:
        mine = Trace(tuple(self.taken), complete=True)
        memory = self.oracle.memory[self.process]
        equal = [it for it in self.known if it.complete and it.signature == mine.signature]
        if equal and not self.unpublishable:
            if equal[0] is not self.began_with:
                memory[self.memory_key] = equal[0]
            return False
        if self.unpublishable:
            return False
        self._settle()
        torn = (at for at, guard in self.broken if guard in self.taken[at].guards)
        whole = self._with_its_writes(min(torn, default=len(self.taken)))
        kept = Trace(mine.steps[:whole], complete=whole == len(self.taken))
        same = (it.signature == kept.signature for it in self.oracle.traces[self.task])
        if whole == 0 or any(same):
            return False
        self.oracle.publish(self.task, kept)
        memory[self.memory_key] = kept
        return True

    def _with_its_writes(self, whole: int) -> int:
        """A decision that chose a write is published with it, or not at all."""
        cut = [
            (at, step)
            for at, step in enumerate(self.taken)
            if at >= whole and step.tool is not None and step.tool.effect == "write"
        ]
        chose = (
            at
            for at, step in enumerate(self.taken[:whole])
            if step.tool is None and any(_chose(step, at, *write) for write in cut)
        )
        first = min(chose, default=whole)
        return whole if first == whole else self._with_its_writes(first)


@dataclass
class _Gate:
    final: bool
    chose: Sequence[int]
    begun: bool = False
    moved: list[Note] = field(default_factory=list)


@dataclass
class _Job:
    tool: Tool
    call: Call
    key: tuple[Any, ...]
    occurrence: int
    needs: tuple[Facet, ...]
    recorded: Judged | None
    followed: bool = False
    notes: tuple[Note, ...] = ()
    output: Any = None
    ran: bool = False
    same: bool = False
    copied: bool = False
