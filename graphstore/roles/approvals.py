"""Asking whether an effect may begin, and answering."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import NamedTuple, Protocol

from ..model import Approval, ApprovalState, EffectState

__all__ = ["Approving", "Precedent"]


class Precedent(NamedTuple):
    """An approval, and how the effect stands that has used it up; None: none is kept."""

    approval: Approval
    effect: EffectState | None


class Approving(Protocol):
    """Keeps what is asked before an effect, and the first answer. ``RunRecording.intend`` uses an
    approval up."""

    @abstractmethod
    async def request(
        self, approval: Approval, lasts: timedelta, *, hearer: str | None = None
    ) -> Approval:
        """Ask for an approval, in one statement that is waited for.

        If one with the same digest is open (pending, or approved and not used, and not expired),
        or was denied and nobody was told yet but this ``hearer`` (None: the execution), that one is
        returned, and of a denial is kept that the hearer was told. Else this one is kept as
        pending, and may be answered and used for as long as it ``lasts`` by the store's clock.
        Repeating it gives the same.
        """

    @abstractmethod
    async def answer(
        self,
        id_: str,
        state: ApprovalState,
        *,
        by: str | None = None,
        reason: str | None = None,
        heard_by: str | None = None,
    ) -> Approval | None:
        """Approve or deny it if it is pending, and give it as it is kept then: the first answer
        stays. None: it is unknown. Repeating it changes nothing."""

    @abstractmethod
    async def approval(self, id_: str) -> Approval | None:
        """The approval with this id; None if unknown."""

    @abstractmethod
    async def precedents(self, task: str, tool: str, *, limit: int = 20) -> list[Precedent]:
        """The newest approvals of a tool in a task, newest first."""
