"""What waits for the answer of a person."""

from __future__ import annotations

from ...graphstore.canonical import Json, decode
from ...graphstore.errors import PayloadCorrupted
from ...graphstore.model import Approval
from ...graphstore.store import GraphStore
from ..effects.confirming import doubts_of, facts_of, request_of
from ..outcome.confirmation import ConfirmationRequest
from ..outcome.hiding import without_secrets

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
    """The inputs of the task; None while no run of it has ended, or they are damaged."""
    if (task := await store.task(approval.task)) is None:
        return None
    try:
        payloads = await store.values([task.inputs])
    except PayloadCorrupted:
        return None
    inputs: Json = without_secrets(decode(payloads[task.inputs]))
    return inputs
