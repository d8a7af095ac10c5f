"""Plans on the real servers: given, judged, compared, assigned."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from contracts import planner
from contracts.errors import Code
from contracts.plan import MAX_NODES, ModelRef
from contracts.planner import Plan, PlanStatus, TaskStatus
from tests.planner.conftest import World
from tests.planner.test_tasks import refusal


def node(key: str, *deps: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "title": key.upper(), "deps": list(deps), **fields}


async def give(world: World, task_id: UUID, *nodes: dict[str, Any], **fields: Any) -> Plan:
    order = {"command_id": uuid4(), "task_id": task_id, "graph": list(nodes), **fields}
    return await world.ask(planner.CreatePlan.model_validate(order))


async def test_a_given_plan_makes_its_task_ready_and_edges_follow_from_dependencies(live: World) -> None:
    task = await live.task()
    plan = await give(live, task.id, node("a"), node("b", "a"))
    assert (plan.status, plan.version, plan.id) == (PlanStatus.READY, 1, plan.plan_id)
    assert plan.graph is not None
    assert [(e.source, e.target) for e in plan.graph.edges] == [("a", "b")]
    now = await live.now(task)
    assert (now.status, now.plan_id) == (TaskStatus.READY, plan.id)
    assert await live.ask(planner.GetPlan(plan_id=plan.id)) == plan


async def test_a_plan_given_as_draft_waits_for_its_validation(live: World) -> None:
    task = await live.task()
    plan = await give(live, task.id, node("a"), status="draft")
    assert (await live.now(task)).status is TaskStatus.DRAFT
    refused = (await refusal(live.started(task))).failure
    assert (refused.code, refused.details["status"]) == (Code.PLAN_NOT_READY, "draft")

    judge = planner.SubmitForValidation(command_id=uuid4(), plan_id=plan.id, validated=True)
    assert (await live.ask(judge)).errors == []
    assert (await live.now(task)).status is TaskStatus.READY


async def test_a_rejected_plan_keeps_the_reasons_and_its_task_is_a_draft_again(live: World) -> None:
    task = await live.task()
    plan = await give(live, task.id, node("a"))
    judge = planner.SubmitForValidation(command_id=uuid4(), plan_id=plan.id, validated=False, errors=["too thin"])
    assert (await live.ask(judge)).errors == ["too thin"]
    now = await live.ask(planner.GetPlan(plan_id=plan.id))
    assert (now.status, now.errors, now.graph) == (PlanStatus.DRAFT, ["too thin"], plan.graph)
    assert (await live.now(task)).status is TaskStatus.DRAFT


async def test_an_unsound_plan_is_refused_with_every_fault_and_nothing_is_kept(live: World) -> None:
    task = await live.task()
    refused = (await refusal(give(live, task.id, node("a", "a"), node("b", "ghost"), node("b")))).failure
    assert refused.code is Code.INVALID
    assert len(refused.details["errors"]) == 3
    assert (await live.now(task)).plan_id is None
    big = [node(f"n{i}") for i in range(MAX_NODES + 1)]
    assert "201 nodes" in str(await refusal(give(live, task.id, *big)))
    assert (await refusal(give(live, task.id, node("a"), status="invalid"))).failure.code is Code.INVALID
    assert (await refusal(give(live, uuid4(), node("a")))).failure.code is Code.NOT_FOUND


async def test_a_plan_of_two_hundred_long_nodes_travels_and_comes_back_whole(live: World) -> None:
    task = await live.task()
    nodes = [node(f"n{i}", *([f"n{i - 1}"] if i else []), instructions="é" * 2000) for i in range(MAX_NODES)]
    plan = await give(live, task.id, *nodes)
    assert plan.graph is not None
    assert len(plan.graph.plan) == MAX_NODES
    run_id = await live.started(task)
    assert [(len(run.nodes), run.run_id) for run in live.executor.asked] == [(MAX_NODES, run_id)]


async def test_versions_count_up_under_one_plan_and_their_difference_is_told(live: World) -> None:
    task = await live.task()
    plan = await give(live, task.id, node("a"), node("b", "a"))
    again = await give(live, task.id, node("a", title="Other"), node("c", "a"))
    assert (again.id, again.version) == (plan.id, 2)
    page = await live.ask(planner.ListPlanVersions(plan_id=plan.id, order_by="-version"))
    assert ([v.version for v in page.items], page.total) == ([2, 1], 2)
    first = await live.ask(planner.GetPlanVersion(plan_id=plan.id, version=1))
    assert (first.origin, first.graph) == ("explicit", plan.graph)

    change = await live.ask(planner.DiffPlan(plan_id=plan.id, version=2))
    assert (change.previous_version, change.current_version) == (1, 2)
    assert [n.id for n in change.added_nodes] == ["c"]
    assert [n.id for n in change.removed_nodes] == ["b"]
    assert change.changed_nodes[0].changes["title"].model_dump() == {"previous": "A", "current": "Other"}
    assert (change.added_edges, change.removed_edges) == (
        [{"source": "a", "target": "c"}],
        [{"source": "a", "target": "b"}],
    )
    backwards = await live.ask(planner.DiffPlan(plan_id=plan.id, version=1, previous=2))
    assert [n.id for n in backwards.added_nodes] == ["b"]


async def test_versions_that_are_not_there_are_named(live: World) -> None:
    plan = await give(live, (await live.task()).id, node("a"))
    for request in (
        planner.DiffPlan(plan_id=plan.id, version=1),
        planner.DiffPlan(plan_id=plan.id, version=7),
        planner.DiffPlan(plan_id=plan.id, version=1, previous=9),
        planner.GetPlanVersion(plan_id=plan.id, version=2),
        planner.GetPlan(plan_id=uuid4()),
        planner.ListPlanVersions(plan_id=uuid4()),
        planner.AutoAssign(command_id=uuid4(), plan_id=uuid4()),
    ):
        assert (await refusal(live.ask(request))).failure.code is Code.NOT_FOUND


async def test_assignments_are_upserted_and_folded_into_the_run(live: World) -> None:
    task = await live.task()
    plan = await give(live, task.id, node("a"), node("b", "a", suggested_agent_role="editor"))

    async def assign(*items: dict[str, Any]) -> planner.AssignmentsSaved:
        order = {"command_id": uuid4(), "plan_id": plan.id, "items": items}
        return await live.ask(planner.AssignNodes.model_validate(order))

    first = await assign({"node_id": "a", "role": "writer", "agent_id": "a1"})
    assert (first.created, first.updated, len(first.items)) == (1, 0, 1)
    spare = {"provider": "ollama", "model": "spare"}
    both = await assign(
        {"node_id": "a", "role": "writer", "agent_id": "a2", "llm_backend": "openai", "llm_model": "gpt-4o-mini"},
        {"node_id": "b", "agent_id": "b1", "params": {"temperature": 0}, "fallbacks": [spare]},
    )
    assert (both.created, both.updated, [i.agent_id for i in both.items]) == (1, 1, ["a2", "b1"])
    await live.started(task)
    got = [(n.key, n.role, n.agent_id, n.llm_model, n.params) for n in live.executor.asked[0].nodes]
    assert got == [
        ("a", "writer", "a2", "gpt-4o-mini", {}),
        ("b", "editor", "b1", None, {"temperature": 0}),
    ]
    fallbacks = [n.fallbacks for n in live.executor.asked[0].nodes]
    assert fallbacks == [None, [ModelRef(**spare)]]


async def test_assignments_of_unknown_nodes_are_refused_whole(live: World) -> None:
    plan = await give(live, (await live.task()).id, node("a"))
    items = [{"node_id": key, "agent_id": "x"} for key in ("a", "y", "z")]
    order = planner.AssignNodes.model_validate({"command_id": uuid4(), "plan_id": plan.id, "items": items})
    refused = (await refusal(live.ask(order))).failure
    assert (refused.code, len(refused.details["errors"])) == (Code.INVALID, 2)
    assert (await live.ask(planner.GetPlan(plan_id=plan.id))).assignments == []


async def test_auto_assign_fills_the_gaps_with_roles_and_the_default_model(live: World) -> None:
    plan = await give(live, (await live.task()).id, node("a"), node("b", suggested_agent_role="Data Analyst"))
    taken = {"command_id": uuid4(), "plan_id": plan.id, "items": [{"node_id": "a", "agent_id": "me"}]}
    await live.ask(planner.AssignNodes.model_validate(taken))
    saved = await live.ask(planner.AutoAssign(command_id=uuid4(), plan_id=plan.id))
    assert (saved.created, saved.updated) == (1, 0)
    got = {i.node_id: (i.role, i.agent_id, i.llm_backend, i.llm_model) for i in saved.items}
    assert got == {"a": (None, "me", None, None), "b": ("Data Analyst", "auto-data-analyst", "demo", "demo-1")}
    assert (await live.ask(planner.AutoAssign(command_id=uuid4(), plan_id=plan.id))).created == 0


async def test_the_largest_batch_of_assignments_is_told_in_facts_that_travel(world: World) -> None:
    async with world.start_planner() as chassis:
        nodes = [node(f"n{i}") for i in range(MAX_NODES)]
        plan = await give(world, (await world.task()).id, *nodes)
        items = [{"node_id": f"n{i}", "role": "é" * 200, "agent_id": "é" * 200} for i in range(MAX_NODES)]
        items[0]["params"] = {"text": "x" * 100_000}
        order = planner.AssignNodes.model_validate({"command_id": uuid4(), "plan_id": plan.id, "items": items})
        assert (await world.ask(order)).created == MAX_NODES
        sent = "select length(body) from outbox where subject like '%plan.assigned%'"
        sizes = [row[0] for row in await chassis.pool.fetch(sent)]
        assert len(sizes) > 1
        assert max(sizes) < 64 * 1024


async def test_a_new_plan_for_a_running_task_leaves_the_run_and_the_task_alone(live: World) -> None:
    task = await live.planned(nodes=("a",))
    run_id = await live.started(task)
    again = await give(live, task.id, node("other"))
    now = await live.now(task)
    assert (now.status, now.run_id, again.version) == (TaskStatus.RUNNING, run_id, 2)
    assert [n.key for n in live.executor.asked[0].nodes] == ["a"]
