"""Calls to an OpenAI-compatible server over real HTTP: answers, every way to fail, and what reaches the wire."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from pydantic import BaseModel, Field

from chassis.llm.call import Completion, ModelChoice, ModelFailure, Prompt
from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.testing.clock import Clock
from chassis.testing.eventually import eventually
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from tests.llm.given import HELLO, OLLAMA, OPENAI


class Verdict(BaseModel):
    score: int = Field(ge=0, le=100)
    comment: str


async def failure_of(models: Models, choice: ModelChoice = OPENAI, **given: Any) -> ModelFailure:
    with pytest.raises(ModelFailure) as caught:
        await models.complete(choice, HELLO, **{"timeout": 60, **given})
    return caught.value


async def streamed(models: Models, **given: Any) -> tuple[Completion[BaseModel], list[str]]:
    pieces: list[str] = []
    done = await models.complete(OPENAI, HELLO, on_token=pieces.append, **{"timeout": 60, **given})
    return done, pieces


async def test_text_comes_with_usage_model_and_times(models: Models, fake_openai: FakeOpenAI) -> None:
    done = await models.complete(OPENAI, HELLO, timeout=60)
    assert done.text == "echo: Say hello."
    assert (done.choice, done.model_used, done.output, done.warnings) == (OPENAI, "gpt-4o-mini", None, ())
    assert done.usage.prompt_tokens > 0
    assert done.usage.completion_tokens > 0
    assert not done.usage.estimated
    assert done.started_at <= done.ended_at
    assert done.latency_ms >= 0
    sent = fake_openai.calls[0]
    assert [m["role"] for m in sent.body["messages"]] == ["system", "user"]
    assert sent.headers["authorization"] == "Bearer sk-test"
    assert not sent.stream


async def test_tokens_are_told_as_they_come_and_add_up_to_the_text(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(text="one two three four"))
    done, pieces = await streamed(models)
    assert "".join(pieces) == done.text == "one two three four"
    assert len(pieces) > 1
    assert fake_openai.calls[0].stream
    assert not done.usage.estimated


async def test_an_awaitable_listener_is_awaited(models: Models) -> None:
    heard: list[str] = []

    async def listen(text: str) -> None:
        await asyncio.sleep(0)
        heard.append(text)

    done = await models.complete(OPENAI, HELLO, on_token=listen, timeout=60)
    assert "".join(heard) == done.text


async def test_a_listener_that_fails_closes_the_request(models: Models, fake_openai: FakeOpenAI) -> None:
    def burst(_: str) -> None:
        raise LookupError("the watcher is gone")

    fake_openai.script(Behaviour(text="one two", stall_after=1))
    with pytest.raises(LookupError) as caught:
        await models.complete(OPENAI, HELLO, on_token=burst, timeout=60)
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")
    assert caught.tb is not None, "its frames keep the generators alive: closing is not left to the collector"


@pytest.mark.parametrize("streaming", [False, True])
async def test_structured_output_by_tool(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(output={"score": 61, "comment": "fair"}))
    listener = (lambda _: None) if streaming else None
    done = await models.complete(OPENAI, HELLO, output=Verdict, on_token=listener, timeout=60)
    assert done.output == Verdict(score=61, comment="fair")
    assert [tool["function"]["name"] for tool in fake_openai.calls[0].body["tools"]] == ["final_result"]


@pytest.mark.parametrize("choice", [OPENAI, OLLAMA])
async def test_structured_output_by_json_schema(
    settings: LlmSettings, fake_openai: FakeOpenAI, choice: ModelChoice
) -> None:
    models = Models(settings.model_copy(update={"openai_structured_output": "json_schema"}))
    done = await models.complete(choice, HELLO, output=Verdict, timeout=60)
    await models.aclose()
    assert isinstance(done.output, Verdict)
    assert fake_openai.calls[0].body["response_format"]["type"] == "json_schema"


async def test_structured_output_may_come_in_a_fence(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(raw_output='```json\n{"score": 7, "comment": "two\nlines"}\n```'))
    done = await models.complete(OLLAMA, HELLO, output=Verdict, timeout=60)
    assert done.output == Verdict(score=7, comment="two\nlines")


async def test_output_that_does_not_fit_is_malformed_with_raw_text_and_problems(
    models: Models, fake_openai: FakeOpenAI
) -> None:
    fake_openai.script(Behaviour(raw_output='{"score": 400}'))
    failure = await failure_of(models, output=Verdict)
    assert (failure.kind, failure.retriable, failure.raw) == ("malformed", True, '{"score": 400}')
    assert any(p.startswith("score:") for p in failure.problems)
    assert any(p.startswith("comment:") for p in failure.problems)
    assert failure.usage.prompt_tokens > 0, "a useless answer was paid for"
    assert len(fake_openai.calls) == 1, "the repair round is the caller's"


@pytest.mark.parametrize("streaming", [False, True])
async def test_output_that_is_no_json_is_malformed(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(raw_output='{"score": '))
    failure = await failure_of(models, output=Verdict, on_token=(lambda _: None) if streaming else None)
    assert failure.kind == "malformed"
    assert "JSON" in failure.message
    assert failure.raw == '{"score": '


async def test_deeply_nested_output_is_malformed(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(raw_output='{"score":' + "[" * 50_000))
    assert (await failure_of(models, output=Verdict)).kind == "malformed"


@pytest.mark.parametrize("streaming", [False, True])
async def test_an_empty_answer_is_malformed(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(text=""))
    failure = await failure_of(models, on_token=(lambda _: None) if streaming else None)
    assert failure.kind == "malformed"
    assert failure.retriable


async def test_retry_after_in_seconds(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(status=429, headers={"retry-after": "7.5"}))
    failure = await failure_of(models)
    assert (failure.kind, failure.retriable, failure.status, failure.retry_after) == ("rate_limited", True, 429, 7.5)
    assert failure.usage.total_tokens == 0
    assert failure.started_at is not None


async def test_retry_after_as_a_date(models: Models, fake_openai: FakeOpenAI) -> None:
    then = datetime.now(UTC) + timedelta(seconds=120)
    fake_openai.script(Behaviour(status=429, headers={"retry-after": format_datetime(then, usegmt=True)}))
    failure = await failure_of(models)
    assert failure.retry_after is not None
    assert 60 < failure.retry_after <= 120


async def test_a_retry_after_in_the_past_or_of_nonsense_is_no_wait(models: Models, fake_openai: FakeOpenAI) -> None:
    past = format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)
    fake_openai.script(*(Behaviour(status=429, headers={"retry-after": value}) for value in (past, "soon", "-3")))
    waits = [(await failure_of(models)).retry_after for _ in range(3)]
    assert all(wait is None or wait == 0 for wait in waits)


async def test_an_exhausted_account_is_not_retried(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(status=429, code="insufficient_quota"))
    failure = await failure_of(models)
    assert failure.kind == "quota_exceeded"
    assert not failure.retriable


@pytest.mark.parametrize("status", [500, 502, 503, 529, 409])
async def test_a_server_error_is_retriable_and_was_sent_once(
    models: Models, fake_openai: FakeOpenAI, status: int
) -> None:
    fake_openai.script(Behaviour(status=status))
    failure = await failure_of(models)
    assert (failure.kind, failure.retriable, failure.status) == ("server_error", True, status)
    assert len(fake_openai.calls) == 1, "the SDK must not retry"


@pytest.mark.parametrize(
    ("status", "kind", "hint"),
    [
        (400, "refused", "synthetic failure"),
        (401, "unauthorized", "OPENAI_API_KEY"),
        (403, "unauthorized", "OPENAI_API_KEY"),
        (404, "refused", "OPENAI_BASE_URL"),
        (422, "refused", "gpt-4o-mini"),
    ],
)
async def test_a_refusal_is_final_and_says_what_to_do(
    models: Models, fake_openai: FakeOpenAI, status: int, kind: str, hint: str
) -> None:
    fake_openai.script(Behaviour(status=status))
    failure = await failure_of(models)
    assert (failure.kind, failure.retriable) == (kind, False)
    assert hint in failure.message
    assert "sk-test" not in failure.message


async def test_a_missing_ollama_model_is_to_be_pulled(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(status=404))
    assert "ollama pull llama3.1:8b" in (await failure_of(models, OLLAMA)).message


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_body_that_is_no_json_is_malformed(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(raw_body="<html>bad gateway</html>"))
    failure = await failure_of(models, on_token=(lambda _: None) if streaming else None)
    assert failure.retriable
    assert failure.kind in ("malformed", "connection")


async def test_an_event_that_is_no_json_is_malformed(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(bad_chunk=True))
    failure = await failure_of(models, on_token=lambda _: None)
    assert (failure.kind, failure.retriable) == ("malformed", True)
    assert failure.usage.estimated
    assert failure.usage.completion_tokens > 0, "what had arrived counts"


async def test_an_error_inside_the_stream_is_a_failure(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(error_event=True, message="overloaded"))
    failure = await failure_of(models, on_token=lambda _: None)
    assert failure.retriable
    assert "overloaded" in failure.message


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_dropped_connection_is_retriable(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(text="one two three", drop_after=2))
    failure = await failure_of(models, on_token=(lambda _: None) if streaming else None)
    assert (failure.kind, failure.retriable) == ("connection", True)
    assert fake_openai.calls[0].outcome == "dropped"
    assert len(fake_openai.calls) == 1


async def test_a_stream_that_ends_early_is_no_answer(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(text="one two three", end_after=2))
    failure = await failure_of(models, on_token=lambda _: None)
    assert (failure.kind, failure.retriable) == ("connection", True)


async def test_a_slow_first_token_is_a_timeout(settings: LlmSettings, fake_openai: FakeOpenAI, clock: Clock) -> None:
    models = Models(settings.model_copy(update={"llm_first_token_timeout_s": 30}))
    fake_openai.script(Behaviour(held=True))
    call = asyncio.create_task(failure_of(models, on_token=lambda _: None, timeout=60))
    await fake_openai.until(lambda: bool(fake_openai.calls))
    clock.leap(30)
    failure = await call
    assert (failure.kind, failure.retriable) == ("timeout", True)
    assert "no first token within 30 s" in failure.message
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")
    await models.aclose()


async def test_silence_between_tokens_is_a_timeout(
    settings: LlmSettings, fake_openai: FakeOpenAI, clock: Clock
) -> None:
    models = Models(settings.model_copy(update={"llm_idle_timeout_s": 30}))
    fake_openai.script(Behaviour(text="one two three", stall_after=2))
    heard: list[str] = []
    call = asyncio.create_task(failure_of(models, on_token=heard.append, timeout=60))
    await eventually(lambda: "".join(heard) == "one two ")
    clock.leap(30)
    failure = await call
    assert failure.kind == "timeout"
    assert "no further token within 30 s" in failure.message
    assert failure.usage.estimated
    assert failure.record is not None
    assert not failure.record.cost.known
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")
    await models.aclose()


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_whole_call_has_a_limit(
    settings: LlmSettings, fake_openai: FakeOpenAI, streaming: bool, clock: Clock
) -> None:
    models = Models(settings.model_copy(update={"llm_first_token_timeout_s": 60, "llm_idle_timeout_s": 60}))
    fake_openai.script(Behaviour(text="one two three", stall_after=1))
    call = asyncio.create_task(failure_of(models, on_token=(lambda _: None) if streaming else None, timeout=30))
    await fake_openai.until(lambda: bool(fake_openai.calls))
    clock.leap(30)
    failure = await call
    assert failure.kind == "timeout"
    assert "no complete answer within 30 s" in failure.message
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")
    await models.aclose()


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancelling_closes_the_request(models: Models, fake_openai: FakeOpenAI, streaming: bool) -> None:
    fake_openai.script(Behaviour(text="one two three", stall_after=1))
    listener = (lambda _: None) if streaming else None
    call = asyncio.create_task(models.complete(OPENAI, HELLO, on_token=listener, timeout=60))
    await fake_openai.until(lambda: bool(fake_openai.calls))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await fake_openai.until(lambda: fake_openai.calls[0].outcome == "disconnected")


async def test_nobody_at_the_address_says_how_to_start_one() -> None:
    async with FakeOpenAI() as gone:
        address = gone.base_url
    models = Models(LlmSettings(ollama_base_url=address))
    failure = await failure_of(models, OLLAMA)
    assert (failure.kind, failure.retriable) == ("connection", True)
    assert "ollama serve" in failure.message
    assert "OLLAMA_BASE_URL" in failure.message
    assert failure.usage.total_tokens == 0
    await models.aclose()


async def test_a_connection_that_is_not_made_in_time_costs_nothing() -> None:
    with socket.socket() as deaf, socket.socket() as first, socket.socket() as second:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for filler in (first, second):  # a full backlog lets nobody else in
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        models = Models(
            LlmSettings(openai_base_url=f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", llm_connect_timeout_s=0.1)
        )
        failure = await failure_of(models)
        await models.aclose()
    assert failure.retriable
    assert "no connection to openai" in failure.message
    assert failure.usage.total_tokens == 0


async def test_missing_usage_is_estimated_and_said_so(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(text="eight ch", usage=False), Behaviour(text="eight ch", usage=False))
    for done in (await models.complete(OPENAI, HELLO, timeout=60), (await streamed(models))[0]):
        assert done.usage.estimated
        assert done.usage.completion_tokens == 2
        assert done.usage.prompt_tokens > 0
        assert any("no usage" in warning for warning in done.warnings)


async def test_an_answer_cut_at_the_limit_carries_a_warning(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(finish="length"))
    done = await models.complete(OPENAI, HELLO, timeout=60, max_tokens=5)
    assert any("cut off at 5 tokens" in warning for warning in done.warnings)
    assert fake_openai.calls[0].body["max_completion_tokens"] == 5


async def test_ollama_gets_the_limit_in_the_field_it_knows(models: Models, fake_openai: FakeOpenAI) -> None:
    await models.complete(OLLAMA, HELLO, timeout=60, max_tokens=5)
    assert fake_openai.calls[0].body["max_tokens"] == 5


async def test_a_filtered_answer_is_final(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(finish="content_filter"))
    failure = await failure_of(models)
    assert failure.kind == "filtered"
    assert not failure.retriable


@pytest.mark.parametrize("streaming", [False, True])
async def test_text_is_cleaned_of_nul_and_lone_surrogates(
    models: Models, fake_openai: FakeOpenAI, streaming: bool
) -> None:
    fake_openai.script(Behaviour(text="a\x00b \ud83d c", model="gpt\x00-4o"))
    pieces: list[str] = []
    done = await models.complete(OPENAI, HELLO, on_token=pieces.append if streaming else None, timeout=60)
    assert done.text == "ab \N{REPLACEMENT CHARACTER} c"
    assert done.model_used == "gpt-4o"
    assert not streaming or "".join(pieces) == done.text


async def test_structured_output_is_cleaned_too(models: Models, fake_openai: FakeOpenAI) -> None:
    fake_openai.script(Behaviour(raw_output='{"score": 1, "comment": "a\\u0000b\\ud800c"}'))
    done = await models.complete(OPENAI, HELLO, output=Verdict, timeout=60)
    assert done.output == Verdict(score=1, comment="ab\N{REPLACEMENT CHARACTER}c")


async def test_many_calls_at_once_share_one_client(models: Models, fake_openai: FakeOpenAI) -> None:
    done = await asyncio.gather(*(models.complete(OPENAI, Prompt("", f"say:{i}"), timeout=30) for i in range(40)))
    assert [d.text for d in done] == [str(i) for i in range(40)]
    assert len(fake_openai.calls) == 40
