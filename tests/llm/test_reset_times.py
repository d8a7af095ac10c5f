"""When a limit is lifted, as providers spell it in their headers."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from chassis.llm.models import Models
from chassis.llm.reset_times import reset_in
from chassis.testing.clock import Clock
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from tests.llm.test_remote import failure_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EPOCH = NOW.timestamp()


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("20ms", 0.02),
        ("1m20ms", 60.02),
        ("2d", 172_800),
        ("45", 45),
        (f"{EPOCH + 30:.0f}", 30),
        (f"{(EPOCH + 30) * 1000:.0f}", 30),
        ("2026-11-21T12:00:07Z", 7),
        ("2026-11-21T13:00:07+01:00", 7),
        ("2026-11-21T11:00:00Z", 0),
        ("soon", None),
        ("", None),
    ],
)
def test_a_time_is_understood_however_it_is_written(value: str, seconds: float | None) -> None:
    found = reset_in({"x-ratelimit-reset-requests": value, "x-ratelimit-remaining-requests": "0"}, NOW)
    assert found == (pytest.approx(seconds) if seconds is not None else None)


def test_only_limits_that_are_used_up_count_and_the_longest_of_them() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-11-21T12:00:05Z",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-21T12:00:50Z",
        "anthropic-ratelimit-input-tokens-remaining": "1000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-21T12:30:00Z",
        "x-ratelimit-reset": "600",
    }
    assert reset_in(headers, NOW) == 50


async def test_a_reset_header_is_as_good_as_a_retry_after(models: Models, fake_openai: FakeOpenAI) -> None:
    limits = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}
    fake_openai.script(Behaviour(status=429, headers=limits), Behaviour(status=503, headers=limits))
    assert (await failure_of(models)).retry_after == 90
    assert (await failure_of(models)).retry_after is None


async def test_a_model_that_was_at_work_when_the_time_was_over_is_told_apart(
    models: Models, fake_openai: FakeOpenAI, clock: Clock
) -> None:
    fake_openai.script(Behaviour(text="one two three", stall_after=1), Behaviour(held=True))
    slow = await failure_of(models, timeout=30, on_token=lambda _: clock.leap(30))
    call = asyncio.create_task(failure_of(models, timeout=30, on_token=lambda _: None))
    await fake_openai.until(lambda: len(fake_openai.calls) == 2)
    clock.leap(30)
    silent = await call
    assert (slow.kind, slow.at_work, silent.kind, silent.at_work) == ("timeout", True, "timeout", False)
