"""What replies cost, each priced by itself: prices have tiers, which a sum would fall into.

Prices come from genai-prices' offline table, loaded when first needed.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from ...graphstore.model import Step, StepKind, Usage
from ...graphstore.threads import in_thread
from ..outcome.cause import Cause

__all__ = [
    "Bill",
    "Paid",
    "Spared",
    "cost_of",
    "load_prices",
    "load_prices_early",
    "paid_for",
    "price",
    "spared_by",
    "sum_of",
]


@dataclass(slots=True)
class Bill:
    """One reply of a model that was paid for, and why it was asked.

    ``usage`` None: the reply does not tell, or has not ended. ``terms``: on what its price depends
    beside the tokens, in the words of the table of prices.
    """

    model: str
    usage: Usage | None
    cause: Cause
    terms: Mapping[str, str] = field(default_factory=dict)
    _priced: tuple[Usage, float | None] | None = field(default=None, init=False, compare=False)

    @property
    def tokens(self) -> int:
        """All tokens of the reply; 0 where they are not told."""
        return 0 if self.usage is None else self.usage.total

    @property
    def cost(self) -> float | None:
        """In US dollars; None if it is not known. Looked up once: all are summed at each reply."""
        if self.usage is None:
            return None
        if self._priced is None or self._priced[0] is not self.usage:
            self._priced = self.usage, price(self.model, self.usage, self.terms)
        return self._priced[1]


@cache
def load_prices_early() -> None:
    """Begin to load the table, most of a second of CPU, while a model is being asked."""
    threading.Thread(target=_load, name="execgraph-prices", daemon=True).start()


async def load_prices() -> None:
    """Have the table at hand."""
    if "genai_prices" not in sys.modules:
        await in_thread(_load)


def _load() -> None:
    import genai_prices  # noqa: F401


async def cost_of(bills: Sequence[Bill]) -> float | None:
    """The price of replies in US dollars; None if that of one of them is not known."""
    if bills:
        await load_prices()
    return sum_of(bill.cost for bill in bills)


def sum_of(costs: Iterable[float | None]) -> float | None:
    """The sum; None if a part of it is not known."""
    total = 0.0
    for cost in costs:
        if cost is None:
            return None
        total += cost
    return total


@dataclass(frozen=True, slots=True)
class Spared:
    """What served decisions had cost: tokens, and US dollars; None: it is not known."""

    decisions: int
    tokens: int
    cost: float | None


def spared_by(served: Iterable[Step]) -> Spared:
    """What the decisions among these steps had cost."""
    decisions = [step for step in served if step.kind is StepKind.DECISION]
    tokens = sum(step.tokens for step in decisions)
    return Spared(len(decisions), tokens, sum_of(step.cost for step in decisions))


def price(model: str, usage: Usage | None, terms: Mapping[str, str] | None = None) -> float | None:
    """The price of one reply in US dollars; None if it is not known."""
    if usage is None:
        return None
    if not usage.total and not usage.web_search_requests:
        return 0.0
    import genai_prices

    # The table counts cached tokens among the input, the service does not.
    cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    longer = min(usage.cache_creation_1h_input_tokens, usage.cache_creation_input_tokens)
    billed = genai_prices.Usage(
        input_tokens=usage.input_tokens + cached,
        cache_write_tokens=usage.cache_creation_input_tokens,
        cache_write_5m_tokens=usage.cache_creation_input_tokens - longer,
        cache_write_1h_tokens=longer,
        cache_read_tokens=usage.cache_read_input_tokens,
        output_tokens=usage.output_tokens,
        web_searches=usage.web_search_requests,
    )
    try:
        price = genai_prices.calc_price(billed, model)
        if not terms:
            return float(price.total_price)
        under_terms = genai_prices.calc_price(billed, model, price_context=terms)
    except LookupError:
        return None
    # A table that does not know these terms answers as if there were none.
    known = under_terms.model_price != price.model_price
    return float(under_terms.total_price) if known else None


@dataclass(frozen=True, slots=True)
class Paid:
    """What was asked because of causes of one kind."""

    asked: int
    tokens: int


def paid_for(bills: Iterable[Bill]) -> dict[str, Paid]:
    """The calls and tokens of the replies by the kind of cause for which they were asked."""
    by_kind: dict[str, Paid] = {}
    for bill in bills:
        known = by_kind.get(bill.cause.kind.value, Paid(0, 0))
        paid = Paid(known.asked + 1, known.tokens + bill.tokens)
        by_kind[bill.cause.kind.value] = paid
    return by_kind
