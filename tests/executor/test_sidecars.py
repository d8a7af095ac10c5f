"""Every model call has a sidecar that can be asked for; one that is not as it should be is seen, and costs no result."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest

from chassis.llm import sidecar
from chassis.llm.sidecar import INVALID
from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code
from contracts.executor import RunStatus
from contracts.sidecar import check
from contracts.sidecar_requests import GetSidecar, ListSidecars
from services.executor.engine import runner
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_at_once import waits_for_a_lock
from tests.executor.test_ownership import engine_of

pytestmark = pytest.mark.asyncio


async def listed(live: World, run_id: UUID, **which: object) -> list[tuple[str, int, int]]:
    page = await live.ask(ListSidecars(run_id=run_id, **which))
    places = [item.document["metadata"] for item in page.items]
    return [(place["node"], place["attempt"], place["call"]) for place in places]


async def test_the_sidecars_of_a_run_are_listed_in_the_order_of_its_calls(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:500:1 say:good"), agent("b", "a"), noop("c", "b"))
    await live.until(run_id)
    a = (await live.nodes(run_id))["a"].id

    assert await listed(live, run_id) == [("a", 1, 1), ("a", 2, 1), ("b", 1, 1)]
    assert await listed(live, run_id, node_id=a, attempt=2) == [("a", 2, 1)]
    assert await listed(live, run_id, order_by="-node", limit=1) == [("b", 1, 1)]
    page = await live.ask(ListSidecars(run_id=run_id, limit=2, offset=1))
    assert (page.total, len(page.items)) == (3, 2)
    for item in page.items:
        verdict = check(item.document, strict=True)
        assert (verdict.errors, verdict.warnings) == ([], [])


async def test_a_node_s_sidecar_is_that_of_its_latest_call(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="fail:500:1 say:good"))
    await live.until(run_id)
    node = (await live.nodes(run_id))["a"].id

    latest = (await live.ask(GetSidecar(node_id=node))).document
    assert (latest["retry"]["index"], latest["node_id"]) == (1, str(node))
    first = (await live.ask(GetSidecar(node_id=node, attempt=1))).document
    assert first["errors"][0]["code"] == "server_error"
    assert (await refusal(live.ask(GetSidecar(node_id=node, attempt=1, call=7)))).failure.code is Code.NOT_FOUND


async def test_who_called_no_model_has_no_sidecar_and_is_told_why(model: FakeOpenAI, live: World) -> None:
    task = uuid4()
    first = await live.start(agent("a"), noop("b"), task_id=task)
    await live.until(first)
    again = await live.start(agent("a"), noop("b"), task_id=task, reuse_run_id=first)
    await live.until(again)

    noops, reused = (await live.nodes(first))["b"].id, (await live.nodes(again))["a"]
    assert reused.reused_from is not None
    for node, reason in ((noops, "has called no model"), (reused.id, f"taken over from node {reused.reused_from}")):
        refused = await refusal(live.ask(GetSidecar(node_id=node)))
        assert refused.failure.code is Code.NOT_FOUND
        assert reason in refused.failure.message


async def test_another_company_sees_no_sidecar(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a"))
    await live.until(run_id)
    node = (await live.nodes(run_id))["a"].id
    for question in (ListSidecars(company="other", run_id=run_id), GetSidecar(company="other", node_id=node)):
        assert (await refusal(live.ask(question))).failure.code is Code.NOT_FOUND


async def test_an_invalid_sidecar_is_recorded_and_counted_and_costs_no_result(
    model: FakeOpenAI, live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = INVALID._value.get()
    monkeypatch.setattr(sidecar, "VERSION", "0.9")
    run_id = await live.start(agent("a"))
    detail = await live.until(run_id)

    assert detail.run.status is RunStatus.COMPLETED
    assert len(model.calls) == 1, "what is paid for is not bought again"
    (found,) = (await live.ask(ListSidecars(run_id=run_id))).items
    assert found.document["metadata"]["invalid"] == ["$.version: must be 1.0, or a later 1.x"]
    assert INVALID._value.get() == counted + 1


async def test_a_sidecar_that_cannot_be_written_costs_no_result(
    model: FakeOpenAI, live: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise TypeError("a bug\x00 of ours")

    monkeypatch.setattr(runner, "sidecar_for", broken)
    run_id = await live.start(agent("a"))
    detail = await live.until(run_id)

    assert (detail.run.status, detail.summary.llm_request_count) == (RunStatus.COMPLETED, 1)
    assert len(model.calls) == 1
    node = (await live.nodes(run_id))["a"].id
    document = (await live.ask(GetSidecar(node_id=node))).document
    assert document["metadata"]["node"] == "a"
    assert "a bug" in document["metadata"]["invalid"][0]


async def test_what_is_reported_while_its_run_is_being_canceled_is_in_the_books(
    model: FakeOpenAI, world: World
) -> None:
    """The report finds no turn: the run is not ours any more when its own begins."""
    async with world.executor() as chassis:
        owner = engine_of(chassis).owner
        run_id = await world.start(agent("a", say="until-released say:x"))
        await eventually(lambda: model.calls, what="the call")
        async with chassis.pool.acquire() as other, other.transaction():
            await other.execute("select from workers for update")  # no turn begins
            await world.order(run_id, "cancel")
            await eventually(lambda: waits_for_a_lock(chassis), what="the turn that cancels")
            model.release()
            await eventually(lambda: not owner.held[run_id].tasks, what="the report")
        assert (await world.until(run_id)).run.status is RunStatus.CANCELED
        await eventually(lambda: _booked(world), what="the account of the call")
    (sidecar,) = await world.rows("select attempt, call from sidecars where run_id = $1", run_id)
    assert tuple(sidecar) == (1, 1)


async def _booked(world: World) -> bool:
    rows = await world.rows("select a.requests, n.requests from attempts a join nodes n on n.id = a.node_id")
    return [tuple(row) for row in rows] == [(1, 1)]
