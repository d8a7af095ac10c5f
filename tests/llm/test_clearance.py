"""The last look before a request leaves: who is held up sends nothing, and what was not sent is not paid."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from chassis.llm.call import ModelChoice, ModelFailure
from chassis.llm.departure import Clearance
from chassis.llm.models import Models
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.loopback_http import LoopbackHttp
from tests.llm.given import ANTHROPIC, DEMO, HELLO, OLLAMA, OPENAI


class Gate:
    """Holds up whoever comes until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _: Clearance) -> None:
        self.reached.set()
        await self.open.wait()


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the server saw of its connections; in place before it starts."""
    seen: list[str] = []
    connected = LoopbackHttp._connected

    async def noticed(self: LoopbackHttp, *streams: Any) -> None:
        seen.append("open")
        await connected(self, *streams)
        seen.append("closed")

    monkeypatch.setattr(LoopbackHttp, "_connected", noticed)
    return seen


def _nothing(_: str) -> None: ...


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("choice", [OPENAI, OLLAMA, ANTHROPIC, DEMO])
async def test_a_request_leaves_when_it_may_and_not_before(
    models: Models, fake_openai: FakeOpenAI, connections: list[str], choice: ModelChoice, streaming: bool
) -> None:
    gate, listener = Gate(), (_nothing if streaming else None)
    call = asyncio.create_task(models.complete(choice, HELLO, on_token=listener, timeout=60, before_sending=gate))
    await gate.reached.wait()
    if choice != DEMO:
        await eventually(lambda: connections == ["open"], what="a connection that stands")
    assert fake_openai.calls == []
    gate.open.set()
    assert (await call).text


@pytest.mark.parametrize("choice", [OPENAI, ANTHROPIC])
async def test_who_gives_up_while_held_up_sends_nothing_and_leaves_no_connection(
    models: Models, fake_openai: FakeOpenAI, connections: list[str], choice: ModelChoice
) -> None:
    gate = Gate()
    call = asyncio.create_task(models.complete(choice, HELLO, on_token=_nothing, timeout=60, before_sending=gate))
    await gate.reached.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: connections == ["open", "closed"], what="the connection closed")
    assert fake_openai.calls == []
    assert (await models.complete(choice, HELLO, timeout=60)).text, "the client is as good as before"


@pytest.mark.parametrize("choice", [OPENAI, ANTHROPIC])
async def test_who_is_frozen_between_head_and_body_keeps_the_body(
    models: Models, fake_openai: FakeOpenAI, connections: list[str], choice: ModelChoice
) -> None:
    """Between them the event loop goes round: time enough for a process to be stopped, and its work to be given away."""
    looks, frozen = 0, asyncio.Event()

    async def look(_: Clearance) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            frozen.set()
            await asyncio.Event().wait()

    call = asyncio.create_task(models.complete(choice, HELLO, timeout=60, before_sending=look))
    await asyncio.wait([call, asyncio.ensure_future(frozen.wait())], return_when=asyncio.FIRST_COMPLETED)
    assert not call.done(), "it was asked once, and then sent everything"
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await eventually(lambda: connections == ["open", "closed"], what="the connection closed")
    assert fake_openai.calls == []


async def test_each_request_of_a_kept_connection_is_looked_at(models: Models, connections: list[str]) -> None:
    looks: list[int] = []

    async def look(_: Clearance) -> None:
        looks[-1] += 1

    for _ in range(3):
        looks.append(0)
        await models.complete(OPENAI, HELLO, timeout=60, before_sending=look)
    assert (looks, connections) == ([2, 2, 2], ["open"]), "before the head, and before the body"


async def test_calls_at_once_are_held_up_each_by_its_own_gate(models: Models, fake_openai: FakeOpenAI) -> None:
    gates = [Gate() for _ in range(4)]
    calls = [asyncio.create_task(models.complete(OPENAI, HELLO, timeout=60, before_sending=g)) for g in gates]
    for gate in gates:
        await gate.reached.wait()
    gates[2].open.set()
    assert (await calls[2]).text
    assert len(fake_openai.calls) == 1
    for gate in gates:
        gate.open.set()
    await asyncio.gather(*calls)


async def test_what_was_never_sent_costs_nothing(models: Models, fake_openai: FakeOpenAI) -> None:
    with pytest.raises(ModelFailure) as caught:
        await models.complete(OPENAI, HELLO, on_token=_nothing, timeout=0.2, before_sending=Gate())
    assert caught.value.kind == "timeout"
    assert caught.value.usage.total_tokens == 0
    assert caught.value.record is not None
    assert caught.value.record.cost.known
    assert fake_openai.calls == []
