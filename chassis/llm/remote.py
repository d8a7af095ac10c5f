"""Providers reached over HTTP through pydantic-ai: OpenAI-compatible, Ollama, Anthropic. Slow to import."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal, Protocol

import openai as openai_sdk
from pydantic_ai.direct import model_request, model_request_stream
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models import Model, ModelRequestParameters
from pydantic_ai.models.ollama import OllamaModel
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles import merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from chassis.llm.call import Cost, ModelFailure, Usage
from chassis.llm.departure import HOOKS, cleared_by
from chassis.llm.prices import cost_of
from chassis.llm.provider import Answer, Ask, Finish, Piece
from chassis.llm.remote_errors import EXPECTED, Address, failure_from
from chassis.llm.remote_messages import (
    arguments_of,
    definition,
    messages_of,
    piece_of,
    settings_of,
    tool_call_of,
    usage_of,
)
from chassis.llm.settings import LlmSettings, Price, revealed, without_credentials

NO_KEY = "no-key"  # the SDK wants one, a server of one's own may not
ANSWER_TOOL = "final_result"
#: a stream that ends without saying why was cut off; pydantic-ai would take it for complete
WHOLE_ANSWERS = OpenAIModelProfile(openai_chat_streaming_requires_finish_reason=True)
FINISH: Mapping[str | None, Finish] = {"length": "length", "tool_call": "tool_calls"}

StructuredMode = Literal["tool", "native"]


class HttpClient(Protocol):
    """An SDK's client, as far as it is the same in all of them."""

    async def close(self) -> None: ...


class RemoteProvider:
    """One provider behind one HTTP client without retries: those belong to the caller."""

    simulated = False

    def __init__(
        self,
        address: Address,
        client: HttpClient,
        model: Callable[[str], Model],
        mode: StructuredMode,
        prices: Mapping[str, Price],
    ) -> None:
        self.name = address.provider
        self.endpoint: str | None = address.endpoint
        self._address = address
        self._client = client
        self._model = model
        self._mode = mode
        self._prices = prices
        self._warm_up()

    def _warm_up(self) -> None:
        """What the SDKs and the price list load with their first use is loaded now, in the thread that builds us."""
        self._model("any")
        self.price("any", Usage())

    async def answer(self, ask: Ask) -> AsyncGenerator[Piece]:
        try:
            if ask.stream:
                async with aclosing(self._streamed(ask)) as pieces:
                    async for piece in pieces:
                        yield piece
            else:
                with cleared_by(ask.clearance):
                    response = await model_request(**self._request(ask), instrument=False)
                yield self._answer(ask, response)
        except EXPECTED as error:
            raise failure_from(error, self._address, ask.model) from error

    async def _streamed(self, ask: Ask) -> AsyncGenerator[Piece]:
        async with AsyncExitStack() as stack:
            with cleared_by(ask.clearance):  # no yield in here: a generator must not leave its mark on its caller
                stream = await stack.enter_async_context(model_request_stream(**self._request(ask), instrument=False))
            async for event in stream:
                yield piece_of(event)
            response = stream.get()
            if response.finish_reason is None:
                broken = f"the connection to {self.name} at {self.endpoint} ended before the answer was complete"
                raise ModelFailure("connection", broken)
            yield self._answer(ask, response)

    def _request(self, ask: Ask) -> dict[str, Any]:
        model = self._model(ask.model)
        return {
            "model": model,
            "messages": messages_of(ask.prompt),
            "model_settings": settings_of(ask),
            "model_request_parameters": self._parameters(ask, model),
        }

    def _parameters(self, ask: Ask, model: Model) -> ModelRequestParameters:
        tools = [definition(t.name, t.parameters, t.description) for t in ask.tools]
        if ask.schema is None:
            return ModelRequestParameters(function_tools=tools)
        schema = dict(ask.schema.schema)
        if self._mode == "native" and model.profile.get("supports_json_schema_output"):
            wanted = OutputObjectDefinition(json_schema=schema, name=ask.schema.name)
            return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=wanted)
        answer = definition(ANSWER_TOOL, schema, f"Give the final answer as a {ask.schema.name}.", kind="output")
        return ModelRequestParameters(
            function_tools=tools, output_mode="tool", output_tools=[answer], allow_text_output=False
        )

    def _answer(self, ask: Ask, response: ModelResponse) -> Answer:
        if response.finish_reason == "content_filter":
            raise ModelFailure("filtered", f"{self.name} filtered the answer: reword the prompt or use another model")
        calls = [part for part in response.parts if isinstance(part, ToolCallPart)]
        answers = [arguments_of(part) for part in calls if ask.schema and part.tool_name == ANSWER_TOOL]
        text = "".join(part.content for part in response.parts if isinstance(part, TextPart))
        return Answer(
            text=answers[0] if answers else text,
            usage=usage_of(response),
            model=response.model_name or ask.model,
            finish=FINISH.get(response.finish_reason, "stop"),
            tool_calls=() if answers else tuple(tool_call_of(part) for part in calls),
        )

    def price(self, model: str, usage: Usage) -> Cost:
        return cost_of(self.name, self._address.endpoint, model, usage, self._prices)

    async def aclose(self) -> None:
        await self._client.close()


def _openai_client(settings: LlmSettings, base_url: str, key: str | None) -> openai_sdk.AsyncOpenAI:
    # No read timeout: Patience watches the pieces, and a model may think for long before the first.
    timeout = openai_sdk.Timeout(None, connect=settings.llm_connect_timeout_s)
    http = openai_sdk.DefaultAsyncHttpxClient(event_hooks=HOOKS)
    return openai_sdk.AsyncOpenAI(
        base_url=base_url, api_key=key or NO_KEY, max_retries=0, timeout=timeout, http_client=http
    )


def openai(settings: LlmSettings) -> RemoteProvider:
    client = _openai_client(settings, settings.openai_base_url, revealed(settings.openai_api_key))
    provider = OpenAIProvider(openai_client=client)
    mode: StructuredMode = "native" if settings.openai_structured_output == "json_schema" else "tool"
    address = Address("openai", without_credentials(settings.openai_base_url), "OPENAI_BASE_URL", "OPENAI_API_KEY")

    def model(name: str) -> Model:
        usual = OpenAIChatModel(name, provider=provider)
        return OpenAIChatModel(name, provider=provider, profile=merge_profile(usual.profile, WHOLE_ANSWERS))

    return RemoteProvider(address, client, model, mode, settings.llm_prices)


def ollama(settings: LlmSettings) -> RemoteProvider:
    client = _openai_client(settings, settings.ollama_base_url, None)
    provider = OllamaProvider(openai_client=client)

    def model(name: str) -> Model:
        # Ollama knows `max_tokens` only and would ignore the newer field, and with it the limit.
        limit = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False, **WHOLE_ANSWERS)
        usual = OllamaModel(name, provider=provider)
        return OllamaModel(name, provider=provider, profile=merge_profile(usual.profile, limit))

    address = Address("ollama", without_credentials(settings.ollama_base_url), "OLLAMA_BASE_URL", None)
    return RemoteProvider(address, client, model, "native", settings.llm_prices)


def anthropic(settings: LlmSettings) -> RemoteProvider:
    # A second of its own, which the others need not wait for.
    import anthropic as anthropic_sdk
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = anthropic_sdk.AsyncAnthropic(
        base_url=settings.anthropic_base_url,
        api_key=revealed(settings.anthropic_api_key) or NO_KEY,
        max_retries=0,
        timeout=anthropic_sdk.Timeout(None, connect=settings.llm_connect_timeout_s),
        http_client=anthropic_sdk.DefaultAsyncHttpxClient(event_hooks=HOOKS),
    )
    provider = AnthropicProvider(anthropic_client=client)
    endpoint = without_credentials(settings.anthropic_base_url)
    address = Address("anthropic", endpoint, "ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY")
    return RemoteProvider(
        address, client, lambda model: AnthropicModel(model, provider=provider), "tool", settings.llm_prices
    )
