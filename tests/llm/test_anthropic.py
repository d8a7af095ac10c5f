"""The same behaviour through the other SDK: Anthropic's messages over real HTTP."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel

from chassis.llm.call import ModelFailure, Prompt, Tool, ToolRound
from chassis.llm.models import Models
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from tests.llm.given import ANTHROPIC, HELLO


class Capital(BaseModel):
    city: str


async def test_text_and_streaming(models: Models, fake_openai: FakeOpenAI) -> None:
    pieces: list[str] = []
    plain = await models.complete(ANTHROPIC, HELLO, timeout=60)
    streamed = await models.complete(ANTHROPIC, HELLO, on_token=pieces.append, timeout=60)
    assert plain.text == streamed.text == "".join(pieces) == "echo: Say hello."
    assert plain.usage == streamed.usage
    assert not plain.usage.estimated
    assert all("sk-ant-test" in str(call.headers) for call in fake_openai.calls)


@pytest.mark.parametrize("streaming", [False, True])
async def test_structured_output(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(output={"city": "Lyon"}))
    listener = (lambda _: None) if streaming else None
    done = await models.complete(ANTHROPIC, HELLO, output=Capital, on_token=listener, timeout=60)
    assert done.output == Capital(city="Lyon")


async def test_a_tool_is_asked_for_and_answered(models: Models) -> None:
    weather = Tool("weather", "The weather of a city.", {"type": "object", "properties": {"city": {"type": "string"}}})
    prompt = Prompt("", 'tool:weather:{"city": "Lyon"}')
    asked = await models.complete(ANTHROPIC, prompt, tools=(weather,), timeout=60)
    assert [call.name for call in asked.tool_calls] == ["weather"]
    told = Prompt("", prompt.user, (ToolRound(asked.text, asked.tool_calls, ("sunny",)),))
    done = await models.complete(ANTHROPIC, told, tools=(weather,), timeout=60)
    assert "sunny" in done.text


@pytest.mark.parametrize(
    ("behaviour", "kind", "hint"),
    [
        (Behaviour(status=429, headers={"retry-after": "3"}), "rate_limited", "synthetic"),
        (Behaviour(status=529), "server_error", "529"),
        (Behaviour(status=401), "unauthorized", "ANTHROPIC_API_KEY"),
        (Behaviour(status=404), "refused", "ANTHROPIC_BASE_URL"),
        (Behaviour(raw_body="<html>"), "malformed", "could not be read"),
        (Behaviour(drop_after=1), "connection", "broke"),
    ],
)
async def test_failures_are_sorted_and_sent_once(
    models: Models, fake_openai: FakeOpenAI, behaviour: Behaviour, kind: str, hint: str
) -> None:
    fake_openai.script(behaviour)
    with pytest.raises(ModelFailure, match=hint) as caught:
        await models.complete(ANTHROPIC, HELLO, timeout=60)
    assert caught.value.kind == kind
    assert caught.value.retry_after == (3 if kind == "rate_limited" else None)
    assert len(fake_openai.calls) == 1


BROKEN = [Behaviour(drop_after=1), Behaviour(end_after=1), Behaviour(error_event=True), Behaviour(bad_chunk=True)]


@pytest.mark.parametrize("behaviour", BROKEN)
async def test_a_broken_stream_is_retriable(models: Models, fake_openai: FakeOpenAI, behaviour: Behaviour) -> None:
    fake_openai.script(behaviour)
    with pytest.raises(ModelFailure) as caught:
        await models.complete(ANTHROPIC, HELLO, on_token=lambda _: None, timeout=60)
    assert caught.value.retriable


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancelling_closes_the_request(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(stall_after=1))
    listener = (lambda _: None) if streaming else None
    call = asyncio.create_task(models.complete(ANTHROPIC, HELLO, on_token=listener, timeout=60))
    await fake_openai.until(lambda: bool(fake_openai.calls))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")
