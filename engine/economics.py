"""What tokens cost. Prices come from genai-prices' offline table, loaded when first needed."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import cache

from ..graphstore.model import Usage
from ..graphstore.threads import in_thread

__all__ = ["cost_of", "load_prices_early", "price"]


@cache
def load_prices_early() -> None:
    """Begin to load the table, most of a second of CPU, while a model is being asked."""
    threading.Thread(target=_load_prices, name="execgraph-prices", daemon=True).start()


def _load_prices() -> None:
    import genai_prices  # noqa: F401


async def cost_of(usage: Mapping[str, Usage]) -> float | None:
    """The price of tokens by model, in US dollars; None if a model's price is not known."""
    billed = {model: used for model, used in usage.items() if used.total}
    if not billed:
        return 0.0
    await in_thread(_load_prices)
    prices = [price(model, used) for model, used in billed.items()]
    return None if None in prices else sum(item for item in prices if item is not None)


def price(model: str, usage: Usage) -> float | None:
    """The price of ``usage`` at ``model`` in US dollars; None if it is not known."""
    import genai_prices

    cached = usage.cache_creation_input_tokens + usage.cache_read_input_tokens
    billed = genai_prices.Usage(
        # The table counts cached tokens among the input, the service does not.
        input_tokens=usage.input_tokens + cached,
        cache_write_tokens=usage.cache_creation_input_tokens,
        cache_read_tokens=usage.cache_read_input_tokens,
        output_tokens=usage.output_tokens,
    )
    try:
        return float(genai_prices.calc_price(billed, model).total_price)
    except LookupError:
        return None
