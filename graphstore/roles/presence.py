"""Which store there is, and whether it is there."""

from __future__ import annotations

from abc import abstractmethod
from typing import Protocol, Self

__all__ = ["Opening", "Presence"]


class Presence(Protocol):
    """One namespace of a store that is open."""

    #: The address as it may be shown: without credentials.
    url: str
    namespace: str

    @abstractmethod
    async def incarnation(self) -> str:
        """A token of the store that is at this address: another token, another store.

        What a process remembers under one token says nothing under another one. Two openings may
        have two tokens although the store is the same one. Raises StoreUnavailable.
        """

    @abstractmethod
    async def now(self) -> int:
        """The store's time, in milliseconds: what its facts are believed by."""

    @abstractmethod
    async def ping(self) -> None:
        """Raises the StoreError that a write would raise now. Changes nothing."""


class Opening(Presence, Protocol):
    """Opens a store, and gives it to others."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create or migrate the schema under a lock. Opening twice does nothing.

        Raises StoreUnavailable, StoreAccessDenied, SchemaTooNew.
        """

    @abstractmethod
    async def close(self) -> None:
        """Let go of all connections. Closing a closed store does nothing."""

    @abstractmethod
    def of(self, namespace: str) -> Self:
        """Another namespace of this store. They share what is open: who opens or closes one of
        them opens or closes all."""

    @abstractmethod
    def pinned(self) -> Self:
        """This store for one piece of work, such as a run or a look at a source.

        Its first call decides with which store, of those that may follow each other at one
        address, that work is done; a call that would go to another one raises StoreReplaced. So
        nothing that was read from one authorises anything in the other, whatever their versions
        and ids are.
        """
