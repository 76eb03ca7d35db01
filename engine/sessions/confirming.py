"""How runs have effects confirmed: who is asked, and how long is waited."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from ..errors import ConfigurationError
from ..outcome.confirmation import Confirm

__all__ = ["Confirming", "checked_callback", "checked_span"]


@dataclass(frozen=True)
class Confirming:
    """The settings of an engine. ``timeout``: what is waited for the callback; ``wait``: for an
    answer from elsewhere; ``expiry``: how long a request may be answered, and its approval used.

    Raises ConfigurationError.
    """

    callback: Confirm | None = None
    timeout: timedelta = timedelta(minutes=10)
    wait: timedelta = timedelta(0)
    expiry: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        checked_callback(self.callback)
        checked_span("confirm_timeout", self.timeout, positive=True)
        checked_span("wait_for_approval", self.wait)
        checked_span("approval_expiry", self.expiry, positive=True)

    def within(self, callback: Confirm | None, wait: timedelta | None) -> Confirming:
        """These settings, with what a run says of its own."""
        if callback is None and wait is None:
            return self
        return replace(
            self,
            callback=self.callback if callback is None else callback,
            wait=self.wait if wait is None else wait,
        )


def checked_callback(confirm: Confirm | None) -> Confirm | None:
    """What is called to confirm. Raises ConfigurationError if it cannot be called."""
    if confirm is not None and not callable(confirm):
        raise ConfigurationError(
            f"confirm={confirm!r} cannot be called; give a function that takes a"
            " ConfirmationRequest, or leave it out to approve from elsewhere"
        )
    return confirm


def checked_span(name: str, span: Any, *, positive: bool = False) -> timedelta | None:
    """A span of time. Raises ConfigurationError if it is none."""
    least = timedelta(milliseconds=1) if positive else timedelta(0)
    if span is None:
        return None
    if not isinstance(span, timedelta) or span < least:
        raise ConfigurationError(
            f"{name}={span!r} is no {'positive ' if positive else ''}timedelta; write for example"
            f" {name}=timedelta(minutes=10)"
        )
    return span
