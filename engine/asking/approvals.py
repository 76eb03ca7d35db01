"""What waits for the answer of a person."""

from __future__ import annotations

from ...graphstore.canonical import Json, decode
from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import Approval
from ...graphstore.store import GraphStore
from ..effects.confirming import doubts_of, facts_of, request_of
from ..outcome.confirmation import ConfirmationRequest
from ..outcome.hiding import without_secrets
from ..outcome.report import Report
from .asked import asked_of
from .why import kept_report

__all__ = ["pending"]


async def pending(store: GraphStore) -> list[ConfirmationRequest]:
    """What was asked and is not answered, with what it rests on."""
    return [
        request_of(
            it,
            await _inputs(store, it),
            await facts_of(store, it),
            doubts_of(it, await store.precedents(it.task, it.tool)),
        )
        for it in await store.approvals()
    ]


async def _inputs(store: GraphStore, approval: Approval) -> Json:
    """What the run was asked that asks; None while no run of the task has ended, or this one has
    not and there are marked values in its task, or if it is damaged."""
    report: Report | None = None
    hint: str | None = "it has not ended"
    if (run := await store.execution(approval.execution)) is not None:
        report, _, hint = await kept_report(store, run)
    task, own, _ = await asked_of(store, approval.task, report, is_whole=hint is None)
    if task is None:
        return None
    try:
        payloads = own or await store.values([task.inputs])
    except PayloadCorrupted:
        return None
    inputs: Json = without_secrets(decode(payloads[task.inputs]))
    return inputs
