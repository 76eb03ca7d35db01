"""What of a run becomes a trace: what no change tore, in a transaction of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from ...graphstore.errors import StoreUnavailable
from ...graphstore.model import Step, manifest
from ..lookup.judging import decisions_behind
from ..outcome.cause import Cause, MissKind
from ..run.run import Run
from ..sessions.outage import store_away
from .acceptance import why_not_accepted
from .ended import EndedRun, signature_of
from .records import execution_of, recording_of

__all__ = ["record", "take_back"]

_GIVEN_AGAIN = "a reply of it is older than max_age= allows; it was given again by"

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
    run, store = ended.run, ended.run.store
    recording = recording_of(ended, execution_of(ended, run.steps))
    steps = recording.steps
    current = await store.write(recording)
    run.publication.allow()
    if run.account.unpublishable is not None or not steps:
        return False
    whole = await _untorn(run, steps, current)
    if whole == 0:
        return False
    if (refused := await why_not_accepted(ended)) is not None:
        run.account.do_not_publish(refused)
        await store.unpublish(run.id, str(refused))
        return False
    for cause in run.account.causes:
        if cause.kind is MissKind.PAYLOAD_DAMAGED:
            # Else this run, being equal, would not take its place, and nothing ever replayed.
            await store.unpublish(cause.node, str(cause.kind))
    return await _publish(run, steps[:whole])


async def _publish(run: Run, steps: Sequence[Step]) -> bool:
    signature = signature_of(steps)
    outdated = await _take_place(run, signature)
    # If the run is cancelled now, this is to end all the same, and is then taken back.
    published = await run.publication.publish(
        run.store.publish(
            run.id,
            steps=len(steps),
            manifest=manifest(steps),
            signature=signature,
            keep=run.session.collector.traces,
            approved=outdated or not run.spec.trust.manual,
        )
    )
    if published.moved:
        run.session.walker.kick()
    if published.rejected is not None:
        run.account.do_not_publish(Cause(MissKind.REJECTED, published.rejected))
    elif published.waits:
        run.account.do_not_publish(Cause(MissKind.NOT_APPROVED, published.equal_to or run.id))
    return published.published


async def _take_place(run: Run, signature: str) -> bool:
    """Unpublish the equal traces that are too old, so that this run takes their place; whether
    there are any."""
    traces, too_old = run.search.plan.traces, run.definition.finds_too_old
    outdated = [it.id for it in traces if it.execution.signature == signature and too_old(it)]
    for trace in outdated:
        await run.store.unpublish(trace, f"{_GIVEN_AGAIN} {run.id}")
    return bool(outdated)


async def take_back(run: Run, reason: str) -> None:
    """Take back the trace of a run that failed, or was cancelled, while it was published. Raises
    StoreError."""
    if run.publication.is_possible:
        await run.publication.settled()
        await run.session.store.unpublish(run.id, reason)


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
    writes = (it for it in steps[whole:] if it.effect is not None and it.effect.writes)
    behind = [position for write in writes for position in decisions_behind(steps, write)]
    first = min(behind, default=whole)
    return whole if first >= whole else _with_its_writes(steps, first)
