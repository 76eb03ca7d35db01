"""The end of a run: as a trace of its own, as one more replay of a trace there is, or failed."""

from __future__ import annotations

import logging

from ...graphstore.canonical import as_text
from ...graphstore.errors import ExecgraphError, StoreError, StoreUnavailable
from ...graphstore.model import ExecutionState
from ..exits import is_exit
from ..outcome.cause import Cause, MissKind
from ..outcome.result import Result
from ..replay.run import Run
from ..replay.run_spec import MustNotAsk
from ..sessions.outage import store_away
from ..task import Payload
from .ended import EndedRun
from .publishing import record, take_back
from .records import execution_of, recording_of, replay_of
from .results import emit_end, result_of

__all__ = ["finish", "is_store_away", "reason_of", "write_failure"]

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
    recorded = await _kept(ended)
    run.session.collector.kick()
    result = result_of(ended, recorded=recorded)
    emit_end(ended, recorded=recorded)
    return result


async def _kept(ended: EndedRun) -> bool:
    """Store the run, and say whether that made a trace, which the process remembers."""
    run, equal = ended.run, ended.equal_trace()
    if equal is not None:
        await run.session.replay_writer.room()
        run.session.replay_writer.add(replay_of(ended, equal))
    recorded = equal is None and await record(ended)
    came_out_as = run.id if recorded else (None if equal is None else equal.id)
    if came_out_as is not None and came_out_as != run.began_with:
        run.session.memory.put(run.memory_key, came_out_as)
    return recorded


async def write_failure(run: Run, reason: str) -> None:
    """Keep a run that failed, for people: it is never published.

    The failure itself matters more than this record: trouble of the store's is logged.
    """
    ended = await EndedRun.of(run)
    failed = {"state": ExecutionState.FAILED, "reason": reason}
    execution = execution_of(ended, run.steps).model_copy(update=failed)
    emit_end(ended, execution, recorded=False)
    if run.away:
        return
    try:
        await take_back(run)
        await run.session.store.write(recording_of(ended, execution))
    except StoreError as error:
        _log.warning("the failed execution %s could not be written: %s", run.id, error)


def reason_of(error: BaseException) -> str:
    """Why a run failed, as it is raised and recorded: text that every store can keep."""
    if isinstance(error, ExecgraphError | MustNotAsk):
        return as_text(str(error))
    if isinstance(error, KeyboardInterrupt) or not (isinstance(error, Exception) or is_exit(error)):
        return "cancelled"
    return as_text(f"{type(error).__name__}: {error}")


def is_store_away(error: BaseException) -> bool:
    """Whether a run failed because the store has gone."""
    return isinstance(error, StoreUnavailable) or isinstance(error.__cause__, StoreUnavailable)
