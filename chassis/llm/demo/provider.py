"""The demo provider: answers offline and deterministically, streams like a model, labels all it says as simulated."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from decimal import Decimal
from typing import Any

from chassis.llm.call import Cost, ToolCall, Usage, estimated_tokens
from chassis.llm.demo import prose, review, site, sources, steps
from chassis.llm.demo.reading import Brief, read
from chassis.llm.demo.sample import sample
from chassis.llm.provider import Answer, Ask, OutputSchema, Piece, SignOfLife, TextPiece
from chassis.llm.settings import LlmSettings
from chassis.llm.text import clean

MODEL = "demo-1"
TOKENS_PER_PIECE = 5

Schema = Mapping[str, Any]

#: Who answers for which shape of output: the first whose predicate holds. What none claims is made from its schema.
RESPONDERS: tuple[tuple[Callable[[Schema], bool], Callable[[Schema, Brief], Any]], ...] = (
    (steps.claims, steps.respond),
    (review.claims, review.respond),
)


class DemoProvider:
    name = "demo"
    endpoint: str | None = None
    simulated = True

    def __init__(self, settings: LlmSettings) -> None:
        self._delay = settings.llm_demo_token_delay_ms / 1000

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece]:
        await ask.clearance()
        brief = read(clean(ask.prompt.system), clean(ask.prompt.user))
        if calls := self._deliveries(ask, brief):
            yield self._asked_for(ask, calls)
            return
        text = structured(ask.schema, brief) if ask.schema else prose.write(brief, sources.sources(ask.prompt.rounds))
        allowed = text[: ask.max_tokens * 4]
        for start in range(0, len(allowed), TOKENS_PER_PIECE * 4):
            await asyncio.sleep(self._delay * TOKENS_PER_PIECE)
            piece = allowed[start : start + TOKENS_PER_PIECE * 4]
            yield SignOfLife(len(piece)) if ask.schema else TextPiece(piece)
        usage = Usage(estimated_tokens(ask.prompt.size), estimated_tokens(len(allowed)))
        yield Answer(allowed, usage, MODEL, finish="stop" if allowed == text else "length")

    def _deliveries(self, ask: Ask, brief: Brief) -> tuple[ToolCall, ...]:
        """Once, before the answer; of what tools said to it, only what a search has found changes it."""
        if ask.schema or ask.tools_closed or ask.prompt.rounds:
            return ()
        return sources.searches(brief, ask.tools) + site.deliveries(brief, ask.tools)

    def _asked_for(self, ask: Ask, calls: tuple[ToolCall, ...]) -> Answer:
        written = sum(len(str(value)) for call in calls for value in call.arguments.values())
        usage = Usage(estimated_tokens(ask.prompt.size), estimated_tokens(written))
        return Answer("", usage, MODEL, finish="tool_calls", tool_calls=calls)

    def price(self, model: str, usage: Usage) -> Cost:
        return Cost(Decimal(0), "simulated: no model was called")

    async def aclose(self) -> None:
        """Nothing is open."""


def structured(schema: OutputSchema, brief: Brief) -> str:
    for claims, respond in RESPONDERS:
        if claims(schema.schema):
            return json.dumps(respond(schema.schema, brief), ensure_ascii=False)
    return json.dumps(sample(schema.schema, brief.title), ensure_ascii=False)
