"""What tokens cost. Prices come from genai-prices' offline table, loaded when first needed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from ..graphstore.model import Usage

__all__ = ["cost_of", "load_prices", "price"]

_loading = threading.Lock()


def load_prices() -> None:
    """Load the table: most of a second of CPU, once per process."""
    with _loading:
        import genai_prices  # noqa: F401


async def cost_of(usage: Mapping[str, Usage]) -> float | None:
    """The price of tokens by model, in US dollars; None if a model's price is not known."""
    billed = {model: used for model, used in usage.items() if used.total}
    if not billed:
        return 0.0
    await asyncio.to_thread(load_prices)
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
