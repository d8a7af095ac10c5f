"""What an answer costs: by our own price table, else by the published prices; otherwise unknown, which is not free.

Its import takes 0.3 s: the adapters of paid providers make it, in their thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import genai_prices

from chassis.llm.call import Cost, Usage
from chassis.llm.settings import Price

MILLION = Decimal(1_000_000)


def cost_of(provider: str, endpoint: str, model: str, usage: Usage, table: Mapping[str, Price]) -> Cost:
    """Published prices hold for the endpoint they were published for: gpt-4o-mini elsewhere has an unknown price."""
    own = table.get(f"{provider}/{model}") or table.get(model)
    if own is not None:
        return Cost((own.input * usage.prompt_tokens + own.output * usage.completion_tokens) / MILLION, "LLM_PRICES")
    return _published(provider, endpoint, model, usage)


def _published(provider: str, endpoint: str, model: str, usage: Usage) -> Cost:
    tokens = genai_prices.Usage(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, cache_read_tokens=usage.cached_tokens
    )
    try:
        price = genai_prices.calc_price(tokens, model, provider_api_url=endpoint)
    except LookupError:
        hint = f'{{"{provider}/{model}": {{"input": …, "output": …}}}}'
        return Cost(
            None, f"the price of {model} at {endpoint} is unknown: set LLM_PRICES={hint} (USD per million tokens)"
        )
    return Cost(price.total_price, "genai-prices")
