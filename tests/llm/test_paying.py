"""What a call is charged whose cost nobody can tell: the most it can have been, if it had left."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.llm.spending import Estimate
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from tests.llm.given import HELLO, OPENAI
from tests.llm.test_remote import failure_of

PRICES = {"gpt-4o-mini": {"input": 1, "output": 1000}}


@pytest.fixture
def priced(settings: LlmSettings, monkeypatch: pytest.MonkeyPatch) -> Models:
    monkeypatch.setenv("LLM_PRICES", json.dumps(PRICES))
    return Models(LlmSettings(openai_base_url=settings.openai_base_url, openai_api_key=settings.openai_api_key))


class Till:
    """A purse that notes what was reserved and what was settled."""

    def __init__(self) -> None:
        self.reserved: list[Decimal | None] = []
        self.settled: list[Decimal | None] = []

    async def reserve(self, estimate: Estimate) -> UUID:
        self.reserved.append(estimate.cost.amount)
        return uuid4()

    def settle(self, reservation: UUID, amount: Decimal | None) -> asyncio.Future[None]:
        self.settled.append(amount)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


BROKEN = [
    Behaviour(drop_after=0),
    Behaviour(text="one two three", drop_after=2),
    Behaviour(text="one two three", end_after=2),
    Behaviour(error_event=True),
    Behaviour(raw_body="<html>not JSON</html>"),
]


@pytest.mark.parametrize("behaviour", BROKEN, ids=["unanswered", "dropped", "ended", "error", "unreadable"])
async def test_a_call_that_broke_after_it_had_left_is_charged_the_most_it_can_have_cost(
    priced: Models, fake_openai: FakeOpenAI, behaviour: Behaviour
) -> None:
    """The model may have worked all the same, and be paid for it."""
    fake_openai.script(behaviour)
    till = Till()
    failure = await failure_of(priced, on_token=lambda _: None, purse=till)
    assert failure.record is not None
    cost = failure.record.cost
    assert (cost.amount, cost.estimated) == (till.reserved[0], True)
    assert till.settled == till.reserved
    assert "most it can have been" in cost.note
    await priced.aclose()


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
async def test_a_call_that_was_refused_costs_nothing(priced: Models, fake_openai: FakeOpenAI, status: int) -> None:
    fake_openai.script(Behaviour(status=status))
    till = Till()
    failure = await failure_of(priced, purse=till)
    assert failure.record is not None
    assert (failure.record.cost.amount, failure.record.cost.estimated, till.settled) == (0, False, [0])
    await priced.aclose()


async def test_a_call_for_which_there_was_no_connection_costs_nothing(priced: Models, fake_openai: FakeOpenAI) -> None:
    await fake_openai.__aexit__(None, None, None)
    till = Till()
    failure = await failure_of(priced, purse=till)
    assert failure.kind == "connection"
    assert till.settled == [0]
    await priced.aclose()


async def test_an_answer_without_usage_is_charged_the_most_it_can_have_cost(
    priced: Models, fake_openai: FakeOpenAI
) -> None:
    fake_openai.script(Behaviour(text="eight ch", usage=False))
    till = Till()
    done = await priced.complete(OPENAI, HELLO, timeout=60, purse=till)
    assert (done.cost.amount, done.cost.estimated) == (till.reserved[0], True)
    assert till.settled == till.reserved
    await priced.aclose()
