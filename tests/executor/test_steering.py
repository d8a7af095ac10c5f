"""Orders to single nodes, on the real servers and a model server that keeps a ledger."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from chassis.testing.eventually import eventually
from chassis.testing.fake_openai import FakeOpenAI
from contracts.errors import Code
from contracts.executor import ControlMode, ControlRun, GetNode, Node, NodeStatus, RunAction, RunStatus
from contracts.run_control import ControlNode, NodeAction, NodeControlled
from tests.executor.conftest import World, agent, noop, refusal
from tests.executor.test_ownership import a_process, workers

FAN = [
    agent("a", say="say:first"),
    agent("b", "a", say="say:left"),
    agent("c", "a", say="say:right"),
    agent("d", "b", "c"),
]


async def steer(world: World, run_id: UUID, key: str, action: str, **fields: Any) -> NodeControlled:
    node_id = (await world.nodes(run_id))[key].id
    return await world.ask(ControlNode(command_id=uuid4(), node_id=node_id, action=NodeAction(action), **fields))


async def until_node(world: World, run_id: UUID, key: str, status: NodeStatus) -> Node:
    async def reached() -> Node | None:
        node = (await world.nodes(run_id))[key]
        return node if node.status is status else None

    return await eventually(reached, what=f"node {key} {status}")


async def states(world: World, run_id: UUID) -> dict[str, str]:
    return {key: str(node.status) for key, node in (await world.nodes(run_id)).items()}


async def test_a_paused_node_waits_and_goes_on_when_it_is_resumed(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="until-released say:x"), agent("b", "a"))
    await model.until(lambda: len(model.calls) == 1)

    answer = await steer(live, run_id, "b", "pause", by="Ada")

    assert (answer.status_after, answer.actual) == (NodeStatus.PAUSED, NodeStatus.QUEUED)
    node = await until_node(live, run_id, "b", NodeStatus.PAUSED)
    assert node.pause_reasons == ["control"]
    model.release()
    await until_node(live, run_id, "a", NodeStatus.COMPLETED)
    assert (await live.run(run_id)).run.status is RunStatus.RUNNING
    answer = await steer(live, run_id, "b", "resume")
    assert answer.status_after is NodeStatus.QUEUED
    await live.until(run_id, RunStatus.COMPLETED)
    facts = await live.facts(run_id)
    assert (facts.count("node.paused"), facts.count("node.resumed")) == (1, 1)


async def test_a_running_node_is_interrupted_and_starts_over_when_resumed(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="until-released say:x"))
    await model.until(lambda: len(model.calls) == 1)
    await steer(live, run_id, "a", "pause", mode=ControlMode.INTERRUPT)
    await model.until(lambda: model.calls[0].outcome == "disconnected")
    await until_node(live, run_id, "a", NodeStatus.PAUSED)
    model.release()
    await steer(live, run_id, "a", "resume")
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert (detail.nodes or [])[0].attempt == 2


async def test_a_skipped_node_is_cut_off_and_what_follows_runs(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:1"), agent("b", "a"))
    await model.until(lambda: len(model.calls) == 1)
    assert (await steer(live, run_id, "a", "skip")).status_after is NodeStatus.SKIPPED
    await model.until(lambda: model.calls[0].outcome == "disconnected")
    await live.until(run_id, RunStatus.COMPLETED)
    assert await states(live, run_id) == {"a": "skipped", "b": "completed"}


async def test_skipping_the_failed_node_of_a_failed_run_reopens_it(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("bad", say="fail:400:9"), agent("after", "bad", say="say:done"))
    await live.until(run_id, RunStatus.FAILED)
    assert (await steer(live, run_id, "bad", "skip")).reopened
    detail = await live.until(run_id, RunStatus.COMPLETED)
    assert await states(live, run_id) == {"bad": "skipped", "after": "completed"}
    assert detail.run.error is None


async def test_an_override_of_a_queued_node_reaches_its_prompt(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(
        agent("a", say="until-released say:x"), agent("b", "a", params={"tone": "dry", "depth": 1})
    )
    await model.until(lambda: len(model.calls) == 1)
    answer = await steer(live, run_id, "b", "override", prompt="Sing it.", params={"depth": 2}, by="Ada")
    assert (answer.sidecar_updated, answer.status_after, answer.reopened) == (True, NodeStatus.QUEUED, False)
    await eventually(lambda: _told(live, run_id, "node.overridden"))
    model.release()
    await live.until(run_id, RunStatus.COMPLETED)
    assert "## Instructions\nSing it." in model.calls[1].user
    assert '- tone: "dry"\n- depth: 2' in model.calls[1].user
    told = await live.fact(run_id, "executor.node.overridden")
    assert (told["key"], told["fields"], told["by"]) == ("b", ["prompt", "params"], "Ada")


async def test_an_override_of_a_running_node_starts_it_again_with_it(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="stall:1"))
    await model.until(lambda: len(model.calls) == 1)
    await steer(live, run_id, "a", "override", prompt="say:better")
    await model.until(lambda: model.calls[0].outcome == "disconnected")
    await live.until(run_id, RunStatus.COMPLETED)
    node = (await live.nodes(run_id))["a"]
    assert (node.output_preview, node.attempt) == ("better", 2)


async def test_an_override_in_a_completed_run_runs_what_stands_on_it_again_and_nothing_else(
    model: FakeOpenAI, live: World
) -> None:
    run_id = await live.start(*FAN)
    await live.until(run_id, RunStatus.COMPLETED)
    before = await live.nodes(run_id)

    answer = await steer(live, run_id, "b", "override", prompt="say:second thoughts")

    assert (answer.reopened, answer.actual) == (True, NodeStatus.COMPLETED)
    detail = await eventually(lambda: _completed_again(live, run_id), what="it completed a second time")
    after = {node.key: node for node in detail.nodes or []}
    assert {key: node.attempt for key, node in after.items()} == {"a": 1, "b": 2, "c": 1, "d": 2}
    assert after["b"].output_preview == "second thoughts"
    assert after["a"] == before["a"]
    assert "second thoughts" in model.calls[-1].user
    assert len(model.calls) == 6
    assert detail.summary.llm_request_count == 6, "what was paid stays booked"
    kept = await live.rows(
        "select output from attempts where run_id = $1 and node_id = $2 order by number", run_id, after["b"].id
    )
    assert [row["output"] for row in kept] == ["left", None], "the old result stays with its attempt"
    facts = await live.facts(run_id)
    assert (facts.count("run.reopened"), facts.count("node.requeued"), facts.count("run.completed")) == (1, 2, 2)


async def test_an_override_of_a_noop_that_had_ended_walks_it_again(live: World) -> None:
    """Nobody works on it: from completed over queued to running it must not be one move of its row."""
    run_id = await live.start(noop("a"), noop("b", "a"))
    await live.until(run_id)
    await steer(live, run_id, "a", "override", params={"x": 1})
    await eventually(lambda: _completed_again(live, run_id))
    assert {node.attempt for node in (await live.nodes(run_id)).values()} == {2}


async def test_an_override_takes_its_task_or_is_refused_with_the_run_that_has_it(
    model: FakeOpenAI, live: World
) -> None:
    task = uuid4()
    first = await live.start(noop("a"), task_id=task)
    await live.until(first)
    second = await live.start(agent("a", say="stall:1"), task_id=task)
    refused = (await refusal(steer(live, first, "a", "override", params={}))).failure
    assert (refused.code, refused.details) == (Code.RUN_ACTIVE, {"run_id": str(second)})
    await live.ask(ControlRun(command_id=uuid4(), run_id=second, action=RunAction.CANCEL))
    await live.until(second)
    refused = (await refusal(steer(live, second, "a", "override", params={}))).failure
    assert (refused.code, refused.details["legal"]) == (Code.ILLEGAL_STATE, [])


async def test_illegal_and_senseless_orders_say_what_would_be_right(live: World) -> None:
    run_id = await live.start(noop("a"))
    await live.until(run_id)
    refused = (await refusal(steer(live, run_id, "a", "pause"))).failure
    assert refused.code is Code.ILLEGAL_STATE
    assert refused.details == {"state": "completed", "legal": ["override"], "run_state": "completed"}
    refused = (await refusal(steer(live, run_id, "a", "override"))).failure
    assert (refused.code, refused.details["errors"][0]["loc"]) == (Code.INVALID, ["prompt"])
    assert (await refusal(steer(live, run_id, "a", "skip", prompt="x"))).failure.code is Code.INVALID
    unknown = ControlNode(command_id=uuid4(), node_id=uuid4(), action=NodeAction.SKIP)
    assert (await refusal(live.ask(unknown))).failure.code is Code.NOT_FOUND


async def test_the_same_order_given_twice_is_carried_out_once(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="until-released say:x"), agent("b", "a"))
    await model.until(lambda: len(model.calls) == 1)
    for _ in range(3):
        await steer(live, run_id, "b", "pause")
    await until_node(live, run_id, "b", NodeStatus.PAUSED)
    for _ in range(3):
        await steer(live, run_id, "b", "resume")
    await until_node(live, run_id, "b", NodeStatus.QUEUED)
    facts = await live.facts(run_id)
    assert (facts.count("node.paused"), facts.count("node.resumed")) == (1, 1)
    model.release()
    await live.until(run_id)


async def test_what_was_asked_of_a_node_is_told_and_what_took_effect_too(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="until-released say:x"), agent("b", "a"))
    await model.until(lambda: len(model.calls) == 1)
    await steer(live, run_id, "b", "pause", by="Ada")
    await until_node(live, run_id, "b", NodeStatus.PAUSED)
    await steer(live, run_id, "b", "pause", by="Bob")
    asked = await live.fact(run_id, "executor.node.control_asked")
    assert {name: asked[name] for name in ("key", "action", "mode", "by", "attempt")} == {
        "key": "b", "action": "pause", "mode": "finish", "by": "Ada", "attempt": 0,
    }  # fmt: skip
    assert (await live.fact(run_id, "executor.node.paused"))["by"] == "Ada"
    await steer(live, run_id, "b", "skip", by="Cy")
    await until_node(live, run_id, "b", NodeStatus.SKIPPED)
    assert (await live.fact(run_id, "executor.node.skipped"))["by"] == "Cy"
    model.release()
    await live.until(run_id)
    facts = [fact for fact in await live.facts(run_id) if fact.startswith("node.control")]
    assert facts == ["node.control_asked"] * 2, "what is so already is not asked again"


async def test_an_order_that_its_node_outran_leaves_a_trace(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="say:quick"), agent("b", "a", say="until-released say:x"))
    await until_node(live, run_id, "a", NodeStatus.COMPLETED)
    await live.rows(  # as if it had been given while the node was still running
        """with given as (insert into signals (run_id, kind, payload)
               values ($1, 'node_skip', '{"key": "a", "by": "Ada"}'))
           update runs set wake_at = clock_timestamp() where id = $1""",
        run_id,
    )
    await eventually(lambda: _told(live, run_id, "node.control_lapsed"))
    told = await live.fact(run_id, "executor.node.control_lapsed")
    assert (told["key"], told["action"], told["status"], told["by"]) == ("a", "skip", "completed", "Ada")
    model.release()
    await live.until(run_id, RunStatus.COMPLETED)


async def test_pauses_deadlines_and_retries_survive_a_kill(model: FakeOpenAI, world: World) -> None:
    async with a_process(world) as victim:
        await eventually(lambda: workers(world))
        run_id = await world.start(
            agent("a", say="until-released say:x"),
            agent("b", "a"),
            agent("c", say="fail:500:1 retry-after:3"),
            timeout_s=600,
        )
        due_at = await eventually(lambda: _due_at(world, run_id))
        await steer(world, run_id, "b", "pause")
        await until_node(world, run_id, "b", NodeStatus.PAUSED)
        deadline = await world.rows("select deadline_at from runs")
        victim.kill()
        await victim.wait()
    await world.end_leases()
    model.release()
    async with world.executor():
        await until_node(world, run_id, "a", NodeStatus.COMPLETED)
        await until_node(world, run_id, "c", NodeStatus.COMPLETED)
        nodes = await world.nodes(run_id)
        assert nodes["c"].started_at is not None
        assert nodes["c"].started_at >= due_at
        assert (nodes["b"].status, nodes["b"].pause_reasons) == (NodeStatus.PAUSED, ["control"])
        left = await world.rows("select deadline_at, time_left from runs")
        assert left[0]["deadline_at"] is None, "only a person can move it on, so its time stands"
        assert left[0]["time_left"].total_seconds() < 600
        assert deadline[0]["deadline_at"] is not None
        await steer(world, run_id, "b", "resume")
        assert (await world.until(run_id)).run.status is RunStatus.COMPLETED


async def _due_at(world: World, run_id: UUID) -> Any:
    return (await world.nodes(run_id))["c"].due_at


async def _told(world: World, run_id: UUID, fact: str) -> bool:
    return fact in await world.facts(run_id)


async def _completed_again(world: World, run_id: UUID) -> Any:
    facts = await world.facts(run_id)
    return await world.run(run_id) if facts.count("run.completed") == 2 else None


async def test_the_detail_of_a_node_shows_the_new_result_alone(model: FakeOpenAI, live: World) -> None:
    run_id = await live.start(agent("a", say="say:old"))
    await live.until(run_id)
    await steer(live, run_id, "a", "override", prompt="until-released say:new")
    await model.until(lambda: len(model.calls) == 2)
    node = await live.ask(GetNode(node_id=(await live.nodes(run_id))["a"].id))
    assert (node.output, node.checksum, node.usage.requests) == (None, None, 1)
    model.release()
    await eventually(lambda: _completed_again(live, run_id))
    assert (await live.ask(GetNode(node_id=node.id))).output == "new"
