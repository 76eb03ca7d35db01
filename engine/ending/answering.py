"""An approval that a person answers, later than it was asked and from elsewhere."""

from __future__ import annotations

from ...graphstore.model import Approval, ApprovalState
from ...graphstore.store import GraphStore
from ..effects.confirming import text_of
from ..errors import ApprovalClosed, ApprovalUnknown

__all__ = ["answer"]


async def answer(
    store: GraphStore,
    id_: str,
    state: ApprovalState,
    *,
    by: str | None = None,
    reason: str | None = None,
) -> Approval:
    """Keep an answer. Who repeats it is told the same; see ``Engine.approve``, ``Engine.deny``."""
    kept = await store.answer(id_, state, by=text_of(by), reason=text_of(reason))
    if kept is None:
        raise ApprovalUnknown(id_, store)
    agreed = {state, *([ApprovalState.USED] if state is ApprovalState.APPROVED else [])}
    if kept.state not in agreed:
        raise ApprovalClosed(kept)
    return kept
