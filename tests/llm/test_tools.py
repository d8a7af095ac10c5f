"""Tools in the model layer: what is offered, what the model asks for, and how it is told the results."""

from __future__ import annotations

from uuid import uuid4

import pytest

from chassis.llm.call import Prompt, Tool, ToolCall, ToolRound
from chassis.llm.models import Models
from chassis.llm.sidecar import sidecar_for
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from contracts.sidecar import check
from tests.llm.given import ANTHROPIC, HELLO, OPENAI

WEATHER = Tool("weather", "The weather.", {"type": "object", "properties": {"city": {"type": "string"}}})


async def test_a_tool_is_asked_for_run_by_the_caller_and_answered(models: Models, fake_openai: FakeOpenAI) -> None:
    prompt = Prompt("", 'tool:weather:{"city": "Lyon"}')
    asked = await models.complete(OPENAI, prompt, tools=(WEATHER,), timeout=60)
    (call,) = asked.tool_calls
    assert (call.name, dict(call.arguments)) == ("weather", {"city": "Lyon"})
    told = Prompt("", prompt.user, (ToolRound(asked.text, asked.tool_calls, ("sunny",)),))
    done = await models.complete(OPENAI, told, tools=(WEATHER,), timeout=60)
    assert "the tool said sunny" in done.text
    assert done.tool_calls == ()
    assert len(fake_openai.calls) == 2, "each is one request, with a sidecar of its own"


@pytest.mark.parametrize("streaming", [False, True])
async def test_several_uses_in_one_answer_come_in_their_order_with_what_was_said(
    models: Models, fake_openai: FakeOpenAI, streaming: bool
) -> None:
    cities = ("Lyon", "Oslo", "Lima")
    fake_openai.script(Behaviour(text="Let me look.", uses=tuple(("weather", {"city": c}) for c in cities)))
    listener = (lambda _: None) if streaming else None
    asked = await models.complete(OPENAI, HELLO, tools=(WEATHER,), on_token=listener, timeout=60)
    assert asked.text == "Let me look."
    assert [call.arguments["city"] for call in asked.tool_calls] == ["Lyon", "Oslo", "Lima"]
    assert len({call.id for call in asked.tool_calls}) == 3


@pytest.mark.parametrize("raw", ['{"city": ', "[1]", '"Lyon"', '{"city": "' + "[" * 50_000])
async def test_arguments_that_are_no_object_are_a_problem_of_that_call(
    models: Models, fake_openai: FakeOpenAI, raw: str
) -> None:
    fake_openai.script(Behaviour(uses=(("weather", raw), ("weather", {"city": "Oslo"}))))
    bad, good = (await models.complete(OPENAI, HELLO, tools=(WEATHER,), timeout=60)).tool_calls
    assert "no JSON object" in bad.problem
    assert (dict(bad.arguments), good.problem) == ({}, "")


async def test_a_name_that_no_tool_may_have_does_not_spoil_the_next_request(
    models: Models, fake_openai: FakeOpenAI
) -> None:
    fake_openai.script(Behaviour(uses=(("the weather\ud800 in: Lyon", {}),)))
    (call,) = (await models.complete(OPENAI, HELLO, tools=(WEATHER,), timeout=60)).tool_calls
    told = Prompt("", HELLO.user, (ToolRound("", (call,), ("there is no such tool",)),))
    await models.complete(OPENAI, told, tools=(WEATHER,), timeout=60)
    (repeated,) = fake_openai.calls[1].body["messages"][1]["tool_calls"]
    assert repeated["function"]["name"] == call.name == "the_weather__in__Lyon"


@pytest.mark.parametrize(("choice", "closed"), [(OPENAI, "none"), (ANTHROPIC, {"type": "none"})])
async def test_closed_tools_are_named_but_must_not_be_used(
    models: Models, fake_openai: FakeOpenAI, choice: object, closed: object
) -> None:
    await models.complete(choice, HELLO, tools=(WEATHER,), tools_closed=True, timeout=60)  # type: ignore[arg-type]
    (sent,) = fake_openai.calls
    assert len(sent.body["tools"]) == 1
    assert sent.body["tool_choice"] == closed


async def test_the_sidecar_of_a_call_after_tools_shows_the_latest_round(models: Models) -> None:
    def a_round(number: int) -> ToolRound:
        return ToolRound("hm", (ToolCall(f"id{number}", "weather", {"city": "é" * 900}),), (f"result {number}",))

    prompt = Prompt("", "what?", (a_round(1), a_round(2)))
    done = await models.complete(OPENAI, prompt, tools=(WEATHER,), timeout=60)
    document = sidecar_for(done, prompt, run_id=uuid4(), node_id=uuid4(), tooling=[{"name": "weather"}])
    assert not check(document, strict=True).errors
    asked, told = document["prompts"]["messages"]
    assert (asked["content"], asked["tool_calls"][0]["name"]) == ("hm", "weather")
    assert len(asked["tool_calls"][0]["arguments"]) == 800
    assert told == {"role": "tool", "name": "weather", "content": "result 2"}
