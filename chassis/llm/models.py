"""The entrance to language models: chooses the provider, makes one call, and turns what happens into values."""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from chassis.llm import catalog
from chassis.llm.call import Completion, ModelChoice, ModelFailure, Prompt, Record, Tool
from chassis.llm.catalog import LlmDescription
from chassis.llm.departure import BeforeSending, Clearance
from chassis.llm.exchange import Exchange
from chassis.llm.patience import Patience, patiently
from chassis.llm.provider import Answer, Ask, Provider, SignOfLife, TextPiece
from chassis.llm.settings import LlmSettings
from chassis.llm.spending import Payment, Purse, estimate
from chassis.llm.structured import read, schema_of
from chassis.llm.text import StreamCleaner
from chassis.llm.tracing import call_span, describe

T = TypeVar("T", bound=BaseModel)
OnToken = Callable[[str], Awaitable[None] | None]


def _now() -> datetime:
    return datetime.now(UTC)


class Models:
    """One per process. Each `complete` is at most one request: retries, repairs and tools are the caller's."""

    def __init__(self, settings: LlmSettings, clock: Callable[[], datetime] = _now) -> None:
        self._settings = settings
        self._clock = clock
        self._providers = catalog.Providers(settings)

    def choose(self, provider: str | None, model: str | None) -> ModelChoice:
        """Fills what is left out from the defaults. Raises ModelFailure(unknown_provider)."""
        return catalog.choose(self._settings, provider, model)

    def describe(self) -> LlmDescription:
        """Which providers there are and which are ready; no secrets."""
        return catalog.describe(self._settings)

    async def warm_up(self) -> None:
        """Imports and connects what the default provider needs, in a thread, so that the first call does not wait."""
        await self._providers.get(self._settings.llm_default_provider)

    @overload
    async def complete(
        self,
        choice: ModelChoice,
        prompt: Prompt,
        *,
        output: type[T],
        on_token: OnToken | None = None,
        timeout: float,
        max_tokens: int | None = None,
        tools: tuple[Tool, ...] = (),
        tools_closed: bool = False,
        before_sending: BeforeSending | None = None,
        purse: Purse | None = None,
    ) -> Completion[T]: ...

    @overload
    async def complete(
        self,
        choice: ModelChoice,
        prompt: Prompt,
        *,
        output: None = None,
        on_token: OnToken | None = None,
        timeout: float,
        max_tokens: int | None = None,
        tools: tuple[Tool, ...] = (),
        tools_closed: bool = False,
        before_sending: BeforeSending | None = None,
        purse: Purse | None = None,
    ) -> Completion[BaseModel]: ...

    async def complete(
        self,
        choice: ModelChoice,
        prompt: Prompt,
        *,
        output: type[BaseModel] | None = None,
        on_token: OnToken | None = None,
        timeout: float,
        max_tokens: int | None = None,
        tools: tuple[Tool, ...] = (),
        tools_closed: bool = False,
        before_sending: BeforeSending | None = None,
        purse: Purse | None = None,
    ) -> Completion[Any]:
        """One answer, or ModelFailure. `on_token` gets the text as it comes; cancelling closes the request at once.

        `before_sending` is awaited at the very last moment, when the connection stands: as long as it does not return,
        nothing is sent. `purse` pays: the most that the call can cost is reserved before, what it came to is settled after.
        """
        provider = await self._provider(choice)
        ask = Ask(
            model=choice.model,
            prompt=prompt,
            max_tokens=max_tokens or self._settings.llm_max_output_tokens,
            stream=on_token is not None,
            schema=schema_of(output) if output is not None else None,
            tools=tools,
            tools_closed=tools_closed,
            clearance=Clearance(before_sending),
        )
        exchange = Exchange(choice, ask, provider, self._clock(), time.perf_counter())
        worst = estimate(choice, ask, provider, timeout)
        ask.clearance.most = worst.cost
        async with Payment(purse, worst, ask.clearance) as payment:
            with call_span(choice, provider.endpoint, ask.max_tokens) as span:
                try:
                    answer = await self._converse(provider, ask, exchange, on_token, self._patience(ask, timeout))
                    completion = _completion(exchange, answer, output, self._clock())
                except ModelFailure as failure:
                    failure.record = exchange.failed(failure, self._clock())
                    payment.came_to(failure.record.cost)
                    describe(span, failure.record)
                    raise
                payment.came_to(completion.record.cost)
                describe(span, completion.record)
                return completion

    async def _provider(self, choice: ModelChoice) -> Provider:
        started, asked = self._clock(), time.perf_counter()
        try:
            return await self._providers.get(choice.provider)
        except ModelFailure as failure:
            taken = round((time.perf_counter() - asked) * 1000)
            failure.record = Record(choice, choice.model, started, self._clock(), taken)
            raise

    async def _converse(
        self, provider: Provider, ask: Ask, exchange: Exchange, on_token: OnToken | None, patience: Patience
    ) -> Answer:
        pieces = patiently(provider.answer(ask), patience, str(exchange.choice))
        cleaner = StreamCleaner()
        async with aclosing(pieces):
            async for piece in pieces:
                match piece:
                    case TextPiece(text):
                        exchange.received += len(text)
                        await _tell(on_token, cleaner.feed(text))
                    case SignOfLife(characters):
                        exchange.received += characters
                    case Answer():
                        exchange.answer = piece
                        await _tell(on_token, cleaner.flush())
                        return piece
        raise ModelFailure("connection", f"{exchange.choice}: the answer ended before it was complete")

    def _patience(self, ask: Ask, total: float) -> Patience:
        if not ask.stream:
            return Patience(total=total, first=total, idle=total)
        settings = self._settings
        return Patience(total, settings.llm_first_token_timeout_s, settings.llm_idle_timeout_s)

    async def aclose(self) -> None:
        await self._providers.aclose()


async def _tell(on_token: OnToken | None, text: str) -> None:
    if on_token is not None and text:
        told = on_token(text)
        if inspect.isawaitable(told):
            await told


def _completion(exchange: Exchange, answer: Answer, output: type[BaseModel] | None, now: datetime) -> Completion[Any]:
    """An answer that asks for tools is complete without a text or output."""
    value: BaseModel | None = None
    text = exchange.text()
    if not answer.tool_calls:
        if not text.strip():
            raise _empty(exchange, answer)
        if output is not None:
            value = read(answer.text, output, str(exchange.choice))
    return Completion(text, exchange.completed(answer, now), value, answer.tool_calls, answer.finish == "length")


def _empty(exchange: Exchange, answer: Answer) -> ModelFailure:
    message = f"{exchange.choice} gave an empty answer"
    if answer.finish == "length":  # it has thought all its tokens away
        message += f": it was cut off at {exchange.ask.max_tokens} tokens; raise LLM_MAX_OUTPUT_TOKENS"
    return ModelFailure("malformed", message, problems=("the answer is empty",))
