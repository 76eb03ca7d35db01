"""The end of a run: as a trace of its own, as one more replay of a trace there is, or failed."""

from __future__ import annotations

import logging

from ...graphstore.canonical import as_text
from ...graphstore.errors import ExecgraphError, StoreError, StoreUnavailable
from ...graphstore.model import ExecutionState, Trace, WishState
from ..errors import RunLost
from ..exits import is_exit
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Result
from ..run.run import Run
from ..run.spec import MustNotAsk
from ..run.wish import end_inner, let_go
from ..sessions.outage import store_away
from ..spelling import sentence_of
from ..task import Payload
from .ended import EndedRun
from .publishing import record, take_back
from .records import execution_of, recording_of, replay_of
from .results import emit_end, kept_result, result_of

__all__ = ["finish", "forsake", "is_store_away", "reason_of", "write_failure"]

_log = logging.getLogger("execgraph")


async def finish(run: Run, output: Payload, *, stop_reason: str | None = None) -> Result:
    """Record what is new in a run that has ended well, and report it.

    ``stop_reason``: why the reply ended that gave the output.
    """
    run.end()
    if lost := run.effects.lost:
        run.account.do_not_publish(Cause(MissKind.UNFINISHED_EFFECT, ", ".join(lost)))
    ended = await EndedRun.of(run, output, stop_reason)
    if run.away:
        run.account.do_not_publish(store_away(run.store))
    equal = ended.equal_trace()
    recorded = await _kept(ended, equal)
    run.lead.end()  # those who wait find it now
    await _end_wish(ended, equal)
    run.journal.ended(run.search.resumed)
    run.session.collector.kick()
    result = result_of(ended, recorded=recorded)
    emit_end(ended, recorded=recorded)
    return result


async def _end_wish(ended: EndedRun, equal: Trace | None) -> None:
    """Keep what a run with an id came to: who calls it again is given that. Raises RunLost."""
    run = ended.run
    if run.wish.run_id is None:
        if equal is None:  # else it is over when that is written
            run.session.at_work.end(run.id)
        return
    if run.wish.place is not None:  # it is over when the outermost run is
        return
    await run.session.replay_writer.flush()
    done = run.wish.wish._replace(state=WishState.DONE, result=kept_result(ended))
    if not await run.store.end_wish(done):
        raise RunLost(run.wish.run_id)
    await end_inner(run.session, run.store, run.wish, WishState.DONE)
    run.session.at_work.end(run.id)


async def _kept(ended: EndedRun, equal: Trace | None) -> bool:
    """Store the run, and say whether that made a trace, which the process remembers."""
    run = ended.run
    if equal is not None:
        await run.session.replay_writer.room()
        run.session.replay_writer.add(replay_of(ended, equal))
    recorded = equal is None and await record(ended)
    came_out_as = run.id if recorded else (None if equal is None else equal.id)
    if came_out_as is not None and came_out_as != run.began_with:
        run.session.memory.put(run.memory_key, came_out_as)
    return recorded


async def write_failure(run: Run, error: BaseException) -> None:
    """Keep a run that failed by ``error``, for people: it is never published.

    The failure itself matters more than this record: trouble of the store's is logged.
    """
    told = False
    try:
        run.journal.failed(error, run.search.resumed)
        ended = await EndedRun.of(run)
        failed = {"state": ExecutionState.FAILED, "reason": reason_of(error)}
        execution = execution_of(ended, run.steps).model_copy(update=failed)
        emit_end(ended, execution, recorded=False)
        if not run.away:
            await take_back(run, reason_of(error))
            await run.session.journal.flush()
            await run.session.store.write(recording_of(ended, execution))
            if run.wish.place is None:
                await end_inner(run.session, run.store, run.wish, WishState.FAILED)
            told = True
    except StoreError as trouble:
        _log.warning("the failed execution %s could not be written: %s", run.id, trouble)
    finally:
        if told:
            run.session.at_work.end(run.id)
        else:
            forsake(run)


def forsake(run: Run) -> None:
    """A run has failed, of which nothing can be kept: it is not at work any more, nor is any inside
    it, so that its task goes on where it was when it is called again."""
    if run.wish.place is None:
        let_go(run.session, run.wish, WishState.FAILED)
    run.session.at_work.end_untold(run.id, run.spec.task.key)


def reason_of(error: BaseException) -> str:
    """Why a run failed, as it is raised and recorded: text that every store can keep."""
    if isinstance(error, ExecgraphError | MustNotAsk):
        return as_text(str(error))
    if isinstance(error, KeyboardInterrupt) or not (isinstance(error, Exception) or is_exit(error)):
        return "cancelled"
    return sentence_of(error)


def is_store_away(error: BaseException) -> bool:
    """Whether a run failed because the store has gone."""
    return isinstance(error, StoreUnavailable) or isinstance(error.__cause__, StoreUnavailable)
