"""What of a run becomes a trace: what no change tore, in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ...graphstore.errors import StoreUnavailable
from ...graphstore.model import Effect, Step, manifest
from ..outcome.cause import Cause, MissKind
from ..replay.judging import decisions_behind
from ..replay.run import Run
from ..sessions.outage import store_away
from .ended import EndedRun, signature_of
from .records import execution_of, recording_of

__all__ = ["record", "take_back"]

_log = logging.getLogger("execgraph")


async def record(ended: EndedRun) -> bool:
    """Write the run, publish what may be replayed of it, and say whether that is anything.

    It has ended well: its answer is not lost because the store is away.
    """
    run = ended.run
    if run.away:
        return False
    try:
        return await _record(ended)
    except StoreUnavailable as error:
        run.session.went_away(error)
        run.account.do_not_publish(store_away(run.store))
        _log.warning("the execution %s has ended well and is not recorded: %s", run.id, error)
        return False


async def _record(ended: EndedRun) -> bool:
    run, steps = ended.run, ended.run.steps
    store = run.store
    current = await store.write(recording_of(ended, execution_of(ended, steps)))
    if run.account.unpublishable is not None or not steps:
        return False
    whole = await _untorn(run, steps, current)
    if whole == 0:
        return False
    for cause in run.account.causes:
        if cause.kind is MissKind.PAYLOAD_DAMAGED:
            # Else this run, being equal, would not take its place, and nothing ever replayed.
            await store.unpublish(cause.node, str(cause.kind))
    return await _publish(run, steps[:whole])


async def _publish(run: Run, steps: Sequence[Step]) -> bool:
    # If the run is cancelled now, this is to end all the same, and is then taken back.
    published = await run.publication.publish(
        run.store.publish(
            run.id,
            steps=len(steps),
            manifest=manifest(steps),
            signature=signature_of(steps),
            keep=run.session.collector.traces,
        )
    )
    if published.moved:
        run.session.walker.kick()
    return published.published


async def take_back(run: Run) -> None:
    """Take back the trace of a run that was cancelled while it was published. Raises StoreError."""
    if await run.publication.came_about():
        await run.session.store.unpublish(run.id, "cancelled")


async def _untorn(run: Run, steps: Sequence[Step], current: Mapping[str, int]) -> int:
    """How many leading steps no change tore, by the versions that are ``current`` now."""
    run_steps = run.path.run_steps
    guards = {it.ticket: it.step.guards for it in run_steps if it.ticket is not None}
    torn = await run.notes.torn(guards, current)
    first = next((n for n, it in enumerate(run_steps) if it.ticket in torn), None)
    if first is None:
        return len(steps)
    run.account.trouble(Cause(MissKind.TORN, f"{steps[first].name} (step {first})"))
    return _with_its_writes(steps, first)


def _with_its_writes(steps: Sequence[Step], whole: int) -> int:
    """How many steps may be published of the first ``whole``: a decision that chose a write only
    together with that write, which tells what it had to rest on."""
    writes = (it for it in steps[whole:] if it.effect is Effect.WRITE)
    behind = [position for write in writes for position in decisions_behind(steps, write)]
    first = min(behind, default=whole)
    return whole if first >= whole else _with_its_writes(steps, first)
