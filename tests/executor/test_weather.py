"""Storms at a real model server: circuits shared by two executors, parked nodes, probes, fallbacks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.fake_answers import Call
from chassis.testing.fake_behaviour import Behaviour
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.outbox_table import FACT
from contracts.executor import GetNode, NodeStatus, RunStatus
from contracts.plan import ModelRef
from contracts.weather import Circuit, CircuitState, ListProviders
from services.executor.domain.retry import MAX_WAITS
from tests.executor.conftest import World, agent

#: rests short enough to sit through many of them
SHORT = {"weather_probe_s": 0.3, "weather_first_rest_s": 0.1, "weather_longest_rest_s": 0.4}
TOO_MANY = Behaviour(status=429, message="slow down")
OUT = Behaviour(status=503, message="overloaded", first_token_s=0.05)


@pytest.fixture
async def second(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeOpenAI]:
    """Another provider's server."""
    async with FakeOpenAI() as server:
        monkeypatch.setenv("OLLAMA_BASE_URL", server.base_url)
        yield server


async def circuits(world: World) -> dict[str, Circuit]:
    items = (await world.ask(ListProviders())).items
    return {f"{c.provider}/{c.model}": c for item in items for c in item.circuits}


async def state(world: World, name: str = "openai/fake-1") -> CircuitState | None:
    found = (await circuits(world)).get(name)
    return found.state if found else None


async def told(world: World, kind: str) -> int:
    return len(await world.rows(f"select from outbox where {FACT} = $1", kind))


async def wide_runs(world: World, runs: int, width: int, say: str = "slow:0.02 say:x") -> list[UUID]:
    nodes = [agent(f"n{i}", say=f"{say} {i}") for i in range(width)]
    return [await world.start(*nodes, title=f"Run {i}") for i in range(runs)]


def most_at_once(calls: Iterable[Call]) -> int:
    edges = sorted(edge for c in calls for edge in ((c.at, 1), (c.ended_at or c.at, -1)))
    now = most = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def failed(calls: Iterable[Call]) -> list[Call]:
    return [c for c in calls if c.status != 200]


# storms


async def test_a_storm_of_429_fails_no_run_and_is_not_met_with_a_storm_of_retries(
    model: FakeOpenAI, world: World
) -> None:
    async with world.executor(concurrency=2, **SHORT), world.executor(concurrency=2, **SHORT):
        runs = await wide_runs(world, 4, 10)
        await model.until(lambda: len(model.calls) >= 8)
        model.weather = TOO_MANY
        await model.until(lambda: len(failed(model.calls)) >= 12)  # two seconds or so of nothing but probes
        model.weather = None
        ended = await world.ended(runs)
        assert {d.run.status for d in ended} == {RunStatus.COMPLETED}
        assert {n.error for d in ended for n in d.nodes or []} == {None}
        probes = await told(world, "provider.opened") - 1 + await told(world, "provider.closed")
        assert len(model.calls) - probes <= 1.10 * 40
        assert (await world.rows("select sum(failures)::int as held_against from nodes"))[0]["held_against"] == 0


async def test_a_storm_of_5xx_opens_the_circuit_and_its_end_closes_it(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=4, **SHORT):
        model.weather = OUT
        [run_id] = await wide_runs(world, 1, 8)
        await eventually(lambda: told(world, "provider.opened"))
        seen = (await circuits(world))["openai/fake-1"]
        assert seen.state is not CircuitState.CLOSED
        assert "overloaded" in (seen.reason or "")
        await eventually(lambda: _parked(world, 7))
        model.weather = None
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        assert await state(world) is CircuitState.CLOSED
        assert (await circuits(world))["openai/fake-1"].parked_nodes == 0


async def _parked(world: World, at_least: int) -> bool:
    return (await circuits(world))["openai/fake-1"].parked_nodes >= at_least


async def test_an_outage_is_noticed_within_a_few_calls_although_all_was_well_before(
    model: FakeOpenAI, world: World
) -> None:
    async with world.executor(concurrency=2, **SHORT):
        runs = await wide_runs(world, 2, 20, say="slow:0.01 say:x")
        await model.until(lambda: len(model.calls) >= 20)
        model.weather = OUT
        await eventually(lambda: told(world, "provider.opened"))
        opened = (await circuits(world))["openai/fake-1"]
        probes = await told(world, "provider.opened") - 1  # that failed meanwhile, or a moment later
        assert opened.calls > 2 * (opened.failures - probes)
        assert opened.failures - probes <= 5 + 2
        model.weather = None
        assert {d.run.status for d in await world.ended(runs)} == {RunStatus.COMPLETED}


async def test_one_call_at_a_time_tries_whoever_asks(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT), world.executor(**SHORT):
        model.weather = OUT
        runs = await wide_runs(world, 4, 5)
        await eventually(lambda: _probed(world))  # whoever was on its way when it opened has come back
        await eventually(lambda: all(c.ended_at for c in model.calls))
        before = len(model.calls)
        await model.until(lambda: len(model.calls) >= before + 6)
        probes = model.calls[before : before + 6]
        assert most_at_once(probes) == 1
        assert len({c.user for c in probes}) > 1  # another one each time: a request that cannot succeed blocks nobody
        model.weather = None
        assert {d.run.status for d in await world.ended(runs)} == {RunStatus.COMPLETED}
        sent = await world.rows(
            "select count(*)::int as n from attempts where coalesce(error, '') not like '%was not called%'"
        )
        assert sent[0]["n"] == len(model.calls)


async def _probed(world: World) -> bool:
    return await told(world, "provider.opened") >= 2


async def test_after_a_rest_calls_begin_little_by_little(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=8, **SHORT):
        model.script(*[TOO_MANY] * 8)
        await world.ended(await wide_runs(world, 2, 12, say="slow:0.25 say:x"))
        probe, *rest = (c for c in model.calls if c.status == 200)
        assert most_at_once(rest) > 4
        for number, call in enumerate(rest):
            others = [c for c in (probe, *rest[:number]) if c.ended_at and c.ended_at > call.at]
            done = sum(1 for c in (probe, *rest) if c.ended_at and c.ended_at <= call.at)
            assert len(others) < 3 + done


async def test_the_first_token_of_a_probe_is_enough(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1, **SHORT), world.executor(concurrency=1, **SHORT):
        model.script(TOO_MANY, Behaviour(text="one two three", stall_after=1))
        [run_id] = await wide_runs(world, 1, 1)
        await eventually(lambda: told(world, "provider.closed"))
        other = await world.start(agent("b", say="say:done"))
        assert (await world.until(other)).run.status is RunStatus.COMPLETED
        await world.order(run_id, "cancel")


# what the provider says


async def test_nothing_is_sent_before_the_time_that_the_provider_named(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1, **SHORT):
        model.script(Behaviour(status=429, headers={"retry-after": "4"}))
        run_id = await world.start(*(agent(f"n{i}", say=f"say:{i}") for i in range(5)))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        assert sorted(n.attempt for n in (await world.nodes(run_id)).values()) == [1, 1, 1, 1, 2]
        turned_away, *rest = model.calls
        assert turned_away.ended_at is not None
        assert min(c.at for c in rest) - turned_away.ended_at >= 3.99
        assert (await world.facts(run_id)).count("node.parked") == 5
        attempts = await world.rows("select count(*)::int as n from attempts where run_id = $1", run_id)
        assert attempts[0]["n"] == 6


async def test_a_run_that_only_waits_for_the_weather_is_given_away_until_then(model: FakeOpenAI, world: World) -> None:
    async with world.executor(quiet_s=0, **SHORT):
        model.script(Behaviour(status=429, headers={"retry-after": "600"}))
        run_id = await world.start(agent("a"))
        until = (await eventually(lambda: _open(world))).until

        async def asleep() -> bool:
            row = (await world.rows("select owner, wake_at from runs where id = $1", run_id))[0]
            return row["owner"] is None and row["wake_at"] == until

        await eventually(asleep)


async def _open(world: World) -> Circuit | None:
    found = (await circuits(world)).get("openai/fake-1")
    return found if found and found.state is CircuitState.OPEN else None


async def test_an_open_circuit_survives_those_who_opened_it(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT):
        model.script(Behaviour(status=429, headers={"retry-after": "600"}))
        await world.start(agent("a"))
        await eventually(lambda: _open(world))
    async with world.executor(**SHORT):
        other = await world.start(agent("b"))
        await eventually(lambda: _parked(world, 2))
        assert (await world.nodes(other))["b"].attempt == 0
    assert len(model.calls) == 1


async def test_another_executor_hears_of_it_before_its_next_look(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1, poll_s=30, **SHORT):
        busy = await world.start(agent("busy", say="stall:1"))
        await model.until(lambda: len(model.calls) == 1)
        async with world.executor(concurrency=1, **SHORT):
            model.script(Behaviour(status=429, headers={"retry-after": "600"}))
            await world.start(agent("a"))
            await eventually(lambda: _open(world))
        await world.order(busy, "cancel")
        other = await world.start(agent("b"))
        await eventually(lambda: _parked(world, 1))
        assert (await world.nodes(other))["b"].attempt == 0
        assert len(model.calls) == 2


# what is no weather


async def test_what_the_client_does_wrong_is_no_weather(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT):
        for status in (400, 401, 404):
            run_id = await world.start(*(agent(f"n{i}", say=f"fail:{status}:9 {i}") for i in range(4)))
            assert (await world.until(run_id)).run.status is RunStatus.FAILED
        assert await eventually(lambda: state(world)) is CircuitState.CLOSED


async def test_a_node_that_fails_alone_is_held_to_account(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=2, **SHORT):
        good = await world.start(*(agent(f"n{i}", say=f"slow:0.05 say:{i}") for i in range(40)))
        await model.until(lambda: len(model.calls) >= 10)
        bad = await world.start(agent("bad", say="fail:500:99", max_attempts=3))
        assert (await world.until(bad)).run.status is RunStatus.FAILED
        assert len(failed(model.calls)) == 3
        assert (await world.until(good)).run.status is RunStatus.COMPLETED
        assert await told(world, "provider.opened") == 0


async def test_a_node_all_alone_before_a_provider_that_stays_out_fails_with_its_error(
    model: FakeOpenAI, world: World
) -> None:
    quick = SHORT | {"weather_probe_s": 0.02, "weather_outage_s": 0.1}
    async with world.executor(**quick):
        model.weather = OUT
        run_id = await world.start(agent("a"), agent("b", "a"))
        detail = await world.until(run_id)
        assert detail.run.status is RunStatus.FAILED
        node = next(node for node in detail.nodes or [] if node.key == "a")
        assert "overloaded" in (node.error or "")
        assert len(model.calls) > MAX_WAITS, "an outage is waited out for a while"
        model.weather = None
        assert (await world.until(await world.start(agent("a")))).run.status is RunStatus.COMPLETED


async def test_a_model_that_was_at_work_when_its_time_was_over_is_well(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT):
        run_id = await world.start(*(agent(f"n{i}", say="stall:5", timeout_s=3, max_attempts=1) for i in range(4)))
        assert (await world.until(run_id)).run.status is RunStatus.FAILED
        assert await told(world, "provider.opened") == 0


# who stands in


async def used(world: World, run_id: UUID) -> dict[str, str | None]:
    return {key: node.model for key, node in (await world.nodes(run_id)).items()}


async def test_a_fallback_takes_over_and_gives_back(model: FakeOpenAI, second: FakeOpenAI, world: World) -> None:
    stand_in = [ModelRef(provider="ollama", model="spare")]
    async with world.executor(concurrency=1, **SHORT):
        model.weather = TOO_MANY
        run_id = await world.start(*(agent(f"n{i}", say=f"say:{i}", fallbacks=stand_in) for i in range(3)))
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED
        assert {c.model for c in second.calls} == {"spare"}
        row = (await world.rows(f"select body from outbox where {FACT} = 'node.completed'"))[0]
        assert b'"requested":"openai/fake-1"' in row["body"]
        tried = await world.rows("select model, requested from attempts where status = 'succeeded'")
        assert {(t["model"], t["requested"]) for t in tried} == {("spare", "openai/fake-1")}
        sidecars = await world.rows(
            "select document->'metadata'->>'requested' as r from sidecars order by id desc limit 1"
        )
        assert sidecars[0]["r"] == "openai/fake-1"

        model.weather = None
        await eventually(lambda: _tried(world, model, stand_in))
        last = await world.start(agent("z", say="say:z", fallbacks=stand_in))
        await world.until(last)
        assert await used(world, last) == {"z": "fake-1"}


async def _tried(world: World, model: FakeOpenAI, stand_in: list[ModelRef]) -> bool:
    """New nodes try the model they want as soon as its rest is over."""
    await world.until(await world.start(agent("y", say="say:y", fallbacks=stand_in)))
    return await state(world) is CircuitState.CLOSED


async def test_the_servers_own_fallbacks_are_for_nodes_that_name_none(
    model: FakeOpenAI,
    second: FakeOpenAI,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLM_FALLBACKS", "anthropic:claude-haiku-4-5, ollama:spare")
    async with world.executor(concurrency=1, **SHORT):
        model.script(Behaviour(status=429, headers={"retry-after": "600"}))
        strict = await world.start(agent("strict", fallbacks=[]))
        await eventually(lambda: _open(world))
        runs = [await world.start(agent("a")), await world.start(agent("b"))]
        assert {d.run.status for d in await world.ended(runs)} == {RunStatus.COMPLETED}
        assert [await used(world, run) for run in runs] == [{"a": "spare"}, {"b": "spare"}]
        assert (await world.nodes(strict))["strict"].status is NodeStatus.QUEUED
        assert capsys.readouterr().out.count("fallback.skipped") == 1


# probes that come to nothing


async def test_a_probe_that_is_canceled_makes_room_for_the_next(model: FakeOpenAI, world: World) -> None:
    async with world.executor(concurrency=1, **SHORT):
        model.script(TOO_MANY, Behaviour(first_token_s=60))
        run_id = await world.start(agent("a"))
        await model.until(lambda: len(model.calls) == 2)
        assert await state(world) is CircuitState.HALF_OPEN
        other = await world.start(agent("b"))
        await world.order(run_id, "cancel")
        assert (await world.until(other)).run.status is RunStatus.COMPLETED


async def test_every_provider_is_listed_with_the_models_that_were_called(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT):
        await world.until(await world.start(agent("a"), agent("b", llm_backend="demo")))
        seen: Any = await eventually(lambda: _counted(world))
        assert (seen["openai/fake-1"].calls, seen["openai/fake-1"].failures) == (1, 0)
        items = {item.name: item for item in (await world.ask(ListProviders())).items}
        assert set(items) == {"demo", "openai", "ollama", "anthropic"}
        assert (items["openai"].default, items["anthropic"].configured, items["ollama"].circuits) == (True, False, [])


async def _counted(world: World) -> dict[str, Circuit] | None:
    found = await circuits(world)
    return found if found.keys() == {"openai/fake-1", "demo/demo-1"} else None


async def test_a_node_shows_that_it_waits_for_the_weather(model: FakeOpenAI, world: World) -> None:
    async with world.executor(**SHORT):
        model.script(Behaviour(status=429, headers={"retry-after": "600"}))
        run_id = await world.start(agent("a"))
        await eventually(lambda: _parked(world, 1))
        node = await world.ask(GetNode(node_id=(await world.nodes(run_id))["a"].id))
        assert node.due_at is not None
        assert "429" in (node.error or "")
