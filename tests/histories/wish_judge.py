"""Judges runs that are called again. It knows what the model said and by which facts, what has
happened outside, and what people have said; it knows nothing of journals, wishes or digests.

Wrong is
- a step of one run id, or an effect that is to happen once, that has happened twice; one that a run
  began after another one had taken its place;
- an idempotency key that is another one when the same step is tried again, or the same for another
  wish;
- a decision that is served though what it rests on has moved, though it is too old, or to a run
  that is to be served nothing;
- an effect that begins though what it rests on was otherwise when it was decided;
- a confirmed effect without an approval of its own, of those arguments and under those facts;
- a decision that is paid again though nothing has changed since a run failed or was killed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from execgraph import (
    AwaitingApproval,
    EffectInDoubt,
    Mode,
    NotConfirmed,
    PreconditionChanged,
    RunFailed,
)
from execgraph.engine.errors import ArgumentsInvalid, RunLost

from .judge import Wrong
from .timeline import Timeline, Window, values
from .wish_telling import Act, Ask, Begun, Killed, Overloaded, Said, Told
from .wish_world import WishWorld
from .wishes import END, TOOLS, Call, Job, needed, said_of

__all__ = ["WishJudge"]

_Wish = tuple[Job, str | None]


class WishJudge:
    """What is known of all runs of a world so far."""

    def __init__(self, world: WishWorld) -> None:
        self._world = world
        self._timeline: Timeline = world.timeline
        # Of runs with an id that have ended: the output, and how many calls there had been then.
        self._returned: dict[_Wish, tuple[str, int]] = {}
        self._happened: Counter[tuple[_Wish, str, str]] = Counter()
        self._history: Counter[_Wish] = Counter()  # how many turns an effect has followed
        self._ended: Counter[Job] = Counter()  # how many runs without an id have
        self._keys: dict[tuple[_Wish, int, Call], str] = {}
        self._owners: dict[str, tuple[_Wish, int]] = {}  # by key
        self._last: dict[_Wish, Told] = {}
        self._approvals: list[Said] = []  # that were not used yet

    def judge(self, told: Told) -> None:
        """Raises Wrong."""
        wish = (told.job, told.run_id)
        self._approvals += [it for it in self._world.said if it.approved]
        self._world.said.clear()
        self._ended_well(told)
        if self._is_given_its_result(wish, told):
            return
        for act in told.acts:
            self._acted_rightly(wish, told, act)
        if told.lost is not None and len(told.begun) > told.lost:
            raise Wrong(f"{told.begun[-1].tool} was begun by a run that had lost its run id")
        self._served_rightly(told)
        self._paid_only_what_must_be(wish, told)
        self._remember(wish, told)

    # How it ended -------------------------------------------------------------------------

    @staticmethod
    def _ended_well(told: Told) -> None:
        error = told.error
        why = error.__cause__ if type(error) is RunFailed else error
        may = isinstance(why, EffectInDoubt | AwaitingApproval | PreconditionChanged | NotConfirmed)
        may |= isinstance(why, Killed) and told.killed
        may |= isinstance(why, Overloaded) and told.failed
        may |= isinstance(why, RunLost) and told.lost is not None
        may |= isinstance(why, ArgumentsInvalid) and told.job.kind == "refund"
        if why is not None and not may:
            raise Wrong(f"{told.job} raised {error!r}") from error

    def _is_given_its_result(self, wish: _Wish, told: Told) -> bool:
        """Whether it has come to its end before: then nothing is done."""
        is_given = told.result is not None and told.result.mode is Mode.RETURNED
        before = self._last.get(wish)
        had_ended = told.within or (before is not None and before.killed)
        if is_given and wish not in self._returned and had_ended:  # and could not tell
            self._returned[wish] = (told.result.output, told.number - 1)
        output, calls = self._returned.get(wish, (None, told.number))
        if not is_given and told.number <= calls:
            return False
        if told.asks or told.acts or told.begun or (told.error is not None and not told.killed):
            raise Wrong(f"{wish} has ended, and was begun again")
        if told.result is not None and told.result.output != output:
            raise Wrong(f"{wish} gave {told.result.output}, and had given {output}")
        return True

    # Effects ------------------------------------------------------------------------------

    def _acted_rightly(self, wish: _Wish, told: Told, act: Act) -> None:
        effect = TOOLS[act.call.tool][0]
        if effect == "read":
            return
        begun = [it for it in told.begun if (it.tool, it.item) == (act.call.tool, act.call.item)]
        if not begun:
            raise Wrong(f"{act.call} was done, and never begun")
        self._began_rightly(told, act.call, begun[-1])
        if act.key is not None:
            self._has_its_key(wish, act.call, act.key)
        if effect == "confirm":
            self._use_an_approval(act.call, begun[-1].meanwhile)
        if act.happened:
            self._happened_once(wish, act)

    def _happened_once(self, wish: _Wish, act: Act) -> None:
        effect = TOOLS[act.call.tool][0]
        if act.key is not None and self._happened[wish, act.call.tool, act.key]:
            return  # the other side has done it
        self._happened[wish, act.call.tool, act.key or ""] += 1
        of = wish if effect != "once" else (Job("", ""), "")
        self._happened[of, act.call.tool, act.call.item] += 1
        if of[1] is not None and self._happened[of, act.call.tool, act.call.item] > 1:
            raise Wrong(f"{act.call} has happened twice for {of}")

    def _has_its_key(self, wish: _Wish, call: Call, key: str) -> None:
        """Runs without an id are about one wish until one comes to its end."""
        about = (wish, self._ended[wish[0]] if wish[1] is None else 0)
        if self._owners.setdefault(key, about) != about:
            raise Wrong(f"{call} has the key of another wish")
        if self._keys.setdefault((*about, call), key) != key:
            raise Wrong(f"{call} of {wish} was tried again with another key")

    def _began_rightly(self, told: Told, call: Call, begun: Begun) -> None:
        """What it rests on was, when it was checked, as it was when it was decided."""
        turn = _turn_of(call)
        own = [it for it in told.asks if it.turn == turn and it.said == call]
        asks = own or [it for it in self._asked(told.job, turn) if it.said == call]
        facets = needed(call.tool)
        for ask in asks:
            around = [values(ask.around, it) & values(begun.meanwhile, it) for it in facets]
            if all(around) or (call.tool == "sign" and around[0]):
                return
        raise Wrong(f"{call} was begun, and what it rests on has moved")

    def _use_an_approval(self, call: Call, meanwhile: Window) -> None:
        for said in self._approvals:
            shown = all(
                said.shown.get(it.uri) in {at.is_ for at in values(meanwhile, it)}
                for it in needed(call.tool)
            )
            if said.call == call and shown:
                self._approvals.remove(said)
                return
        raise Wrong(f"{call} was done without an approval of its own")

    # Decisions ----------------------------------------------------------------------------

    def _served_rightly(self, told: Told) -> None:
        seen: list[tuple[int, Call | None]] = [(_turn_of(it.call), it.call) for it in told.acts]
        if told.result is not None:
            last = told.job.turns - 1
            seen += [(turn, None) for turn in set(range(last)) - {turn for turn, _ in seen}]
            seen.append((last, Call(END, f"{told.job.name}-{last}", told.result.output)))
        first = self._history[told.job, told.run_id] if told.run_id is not None else 0
        for turn, call in seen:
            said = [it.said for it in told.asks if it.turn == turn]
            if turn < first or call in said or (call is None and said):
                continue
            if told.wanted.how != "replay":
                raise Wrong(f"turn {turn} was served to a run that is to be served nothing")
            self._stood(told, turn, call)

    def _stood(self, told: Told, turn: int, call: Call | None) -> None:
        """What was served was said, stood at some moment of the run, and was young enough."""
        asks = [it for it in self._asked(told.job, turn) if call is None or it.said == call]
        if not asks:
            raise Wrong(f"{call} was served, which the model has never said")
        if told.wanted.max_age is not None:
            asks = [it for it in asks if it.ended >= told.at - told.wanted.max_age]
            if not asks:
                raise Wrong(f"turn {turn} was served, and is older than {told.wanted.max_age} ms")
        moments = self._timeline.since(told.mark)
        if call is not None and not any(_is_so(call, moment) for moment in moments):
            raise Wrong(f"{call} was served, and what it rests on has moved")

    def _asked(self, job: Job, turn: int) -> Iterator[Ask]:
        """What the model has ever said in this turn."""
        return (ask for of, ask in self._world.asked if (of, ask.turn) == (job, turn))

    def _paid_only_what_must_be(self, wish: _Wish, told: Told) -> None:
        before = self._last.get(wish)
        if before is None or not before.asks or not (before.failed or before.killed):
            return
        if told.job.kind == "contract" or (before.killed and before.kept):
            return  # what was answered may be answered otherwise; what is kept be no trace yet
        moments = self._timeline.since(before.mark)
        tools = range(told.job.turns)
        facets = {it for turn in tools for it in needed(told.job.tool(turn))}
        calm = all(len(values(moments, it)) == 1 for it in facets)
        if (
            not calm
            or before.wanted.how != "replay"
            or told.wanted.how != "replay"
            or told.wanted.max_age is not None
        ):
            return
        known = max(it.turn for it in before.asks) - before.killed
        if again := [it.turn for it in told.asks if it.turn <= known]:
            raise Wrong(f"turns {again} of {wish} were asked again, and nothing has changed")

    # Afterwards ---------------------------------------------------------------------------

    def _remember(self, wish: _Wish, told: Told) -> None:
        for begun in told.begun:
            self._history[wish] = max(self._history[wish], int(begun.item.rpartition("-")[2]) + 1)
        self._last[wish] = told
        if told.run_id is None:
            self._ended[told.job] += told.result is not None or (told.kept and told.killed)
        elif told.result is not None:
            self._returned.setdefault(wish, (told.result.output, self._world.calls))


def _turn_of(call: Call) -> int:
    return int(call.item.rpartition("-")[2])


def _is_so(call: Call, moment: object) -> bool:
    told = said_of(call.said)
    return all(
        uri not in told or told[uri] in {at.is_ for at in values([moment], facet)}  # type: ignore[list-item]
        for facet in needed(call.tool)
        for uri in [facet.uri]
    )
