"""What a run has cost so far, and why it was not simply replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ...graphstore.model import Usage
from ..model.prices import Bill, sum_of
from ..outcome.attempts import Attempt
from ..outcome.cause import Cause

__all__ = ["Account"]


class Account:
    """``bills``: of replies, also of those that were replaced. ``calls``: to a model, likewise.

    ``causes``: why it was not simply replayed, in the order of time; ``troubles``: those for
    which it will not be replayed either, or not to its end; ``unpublishable``: the first that
    keeps it from being a trace, which ``let_go`` is called for. ``attempts``: requests that gave
    no answer. ``told``: what the caller is told, whether or not a model was asked.
    """

    def __init__(self, causes: Iterable[Cause], let_go: Callable[[], None]) -> None:
        self.causes = list(causes)
        self.troubles: list[Cause] = []
        self.unpublishable: Cause | None = None
        self.bills: list[Bill] = []
        self.calls = 0
        self._let_go = let_go
        self.attempts: list[Attempt] = []
        self.told: list[Cause] = []

    @property
    def usage(self) -> Usage:
        """What it was billed, as far as replies told."""
        bills = tuple(self.bills)
        return sum((bill.usage for bill in bills if bill.usage is not None), Usage())

    @property
    def cost(self) -> float | None:
        """In US dollars; None if it is not known. Prices are to be at hand."""
        return sum_of(bill.cost for bill in tuple(self.bills))

    def ask(self) -> None:
        """Count a call of a model."""
        self.calls += 1

    def pay(self, bill: Bill) -> None:
        """Add what a reply was billed."""
        self.bills.append(bill)

    def fail(self, attempt: Attempt) -> None:
        """Add a request that gave no answer."""
        self.attempts.append(attempt)

    def because(self, cause: Cause) -> None:
        """Add a cause why this run is no plain replay."""
        self.causes.append(cause)

    def priced(self, cause: Cause) -> Cause:
        """A cause with what was paid because of fields that differ on every run."""
        recurring = cause.recurring
        if recurring is None or not recurring.alone:
            return cause
        tokens = sum(bill.tokens for bill in self.bills if bill.cause == cause)
        return replace(cause, recurring=replace(recurring, tokens=tokens))

    def trouble(self, cause: Cause) -> None:
        """Tell why this run cannot be replayed, or not to its end."""
        self.causes.append(cause)
        self.troubles.append(cause)

    def do_not_publish(self, cause: Cause) -> None:
        """This run goes on, and will not be a trace."""
        self.unpublishable = self.unpublishable or cause
        self.trouble(cause)
        self._let_go()
