"""Tasks and plans over HTTP: what the owner is asked, and what the client gets back."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from contracts import planner
from contracts.page import Page
from contracts.plan import Gate
from tests.gateway.builders import a_graph, a_plan, a_task, a_version
from tests.gateway.conftest import StartGateway, StartOwner

RUN = uuid4()
TASK = uuid4()
PLAN = uuid4()
ACCEPTED = {"run_id": str(RUN), "status": "accepted", "location": f"/runs/{RUN}"}


def answers() -> dict[type[Any], Any]:
    """A planner that agrees to everything."""
    return {
        planner.CreateTask: lambda r: planner.TaskCreated(
            task=a_task(title=r.title, gate=r.gate), run_id=RUN if r.auto_start else None
        ),
        planner.LaunchTask: lambda _: planner.RunAccepted(run_id=RUN, task_id=TASK),
        planner.GetTask: lambda r: a_task(id=r.task_id),
        planner.UpdateTask: lambda r: a_task(id=r.task_id, title=r.title or "kept"),
        planner.DeleteTask: lambda _: planner.Deleted(existed=False),
        planner.StartTask: lambda r: planner.RunAccepted(run_id=RUN, task_id=r.task_id, dry_run=r.dry_run),
        planner.DraftPlan: lambda _: planner.PlanDrafted(plan_id=PLAN, status="ready", graph=a_graph(), version=2),
        planner.CreatePlan: lambda r: a_plan(task_id=r.task_id, graph=r.graph),
        planner.GetPlan: lambda r: a_plan(id=r.plan_id, plan_id=r.plan_id),
        planner.ListPlanVersions: lambda r: Page(items=[a_version(r.plan_id, 1)], total=1),
        planner.GetPlanVersion: lambda r: a_version(r.plan_id, r.version),
        planner.DiffPlan: lambda r: planner.PlanDiff(
            plan_id=r.plan_id,
            current_version=r.version,
            previous_version=r.previous or r.version - 1,
            added_nodes=[],
            removed_nodes=[],
            changed_nodes=[
                planner.ChangedNode(id="a", changes={"title": planner.FieldChange(previous="x", current="y")})
            ],
            added_edges=[{"source": "a", "target": "b"}],
            removed_edges=[],
        ),
        planner.AssignNodes: lambda r: planner.AssignmentsSaved(created=1, updated=len(r.items) - 1, items=r.items),
        planner.AutoAssign: lambda _: planner.AssignmentsSaved(created=2, updated=0, items=[]),
        planner.SubmitForValidation: lambda r: planner.Validated(
            plan_id=r.plan_id, validated=r.validated, errors=r.errors
        ),
    }


async def test_a_title_alone_is_a_draft_and_auto_start_is_a_run(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("planner", answers()) as owner, start_gateway() as gateway:
        draft = await gateway.client.post("/tasks", json={"title": " a draft ", "gate": "observe"})
        assert (draft.status_code, draft.json()["title"], draft.json()["status"]) == (201, "a draft", "draft")
        assert draft.headers["Location"] == f"/tasks/{draft.json()['id']}"
        assert owner.asked[-1][0].gate is Gate.OBSERVE
        started = await gateway.client.post("/tasks", json={"title": "t", "auto_start": True})
        assert started.status_code == 201
        task_id = started.json()["task_id"]
        assert started.json() == ACCEPTED | {"task_id": task_id}
        assert UUID(task_id).version == 4
        assert started.headers["Location"] == f"/runs/{RUN}"


async def test_exactly_one_source_is_an_ad_hoc_run(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    graph = [{"id": "a", "title": "x"}, {"id": "b", "title": "y", "deps": ["a"]}]
    async with start_owner("planner", answers()) as owner, start_gateway() as gateway:
        for source in (
            {"task_spec": {"type": "demo", "gate": "gate"}},
            {"task": graph},
            {"task": {"nodes": graph, "edges": [{"source": "a", "target": "b"}]}},
            {"task_file": "examples/demo.json", "options": {"dry_run": True, "gate": "observe"}},
        ):
            response = await gateway.client.post("/tasks", json={"title": "t", **source})
            assert response.status_code == 202, response.text
            assert response.headers["Location"] == f"/runs/{RUN}"
            assert response.json() == ACCEPTED | {"task_id": str(TASK)}
            assert owner.asked[-1][0].dedupe_key is None, "a request id that we made up means nothing"
        assert [node.id for node in owner.asked[1][0].task.plan] == ["a", "b"]
        assert owner.asked[3][0].options.dry_run is True


async def test_only_a_request_id_of_the_client_makes_ad_hoc_runs_the_same(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("planner", answers()) as owner, start_gateway() as gateway:
        body = {"title": "t", "task_spec": {"type": "demo"}}
        await gateway.client.post("/tasks", json=body, headers={"X-Request-ID": "mine"})
        await gateway.client.post("/tasks", json=body | {"request_id": "in-the-body"})
        assert [request.dedupe_key for request, _ in owner.asked] == ["mine", "in-the-body"]


async def test_tasks_are_read_changed_deleted_and_started(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    task = f"/tasks/{uuid4()}"
    async with start_owner("planner", answers()) as owner, start_gateway() as gateway:
        assert (await gateway.client.get(task)).json()["id"] == task.rsplit("/", maxsplit=1)[-1]
        assert (await gateway.client.patch(task, json={"title": "new"})).json()["title"] == "new"
        assert owner.asked[-1][0].clears == []
        await gateway.client.patch(task, json={"description": None})
        assert owner.asked[-1][0].clears == ["description"]
        fields = {"job_type": None, "payload": {"pages": 3}, "assignee": None, "priority": -5}
        assert (await gateway.client.patch(task, json=fields)).status_code == 200
        order = owner.asked[-1][0]
        assert (order.payload, order.priority, order.clears) == ({"pages": 3}, -5, ["job_type", "assignee"])
        assert (await gateway.client.patch(task, json={"priority": 101})).status_code == 422
        deleted = await gateway.client.delete(task)
        assert (deleted.status_code, deleted.content) == (204, b"")
        started = await gateway.client.post(f"{task}/start?dry_run=true")
        assert (started.status_code, started.json()) == (202, {"run_id": str(RUN), "dry_run": True})
        assert started.headers["Location"] == f"/runs/{RUN}"


async def test_a_plan_that_is_ready_is_a_201_and_one_that_takes_longer_a_202(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    task_id = uuid4()
    ready, slow = answers(), answers()
    slow[planner.DraftPlan] = lambda _: planner.PlanDrafted(plan_id=None, status=None, pending=True)
    async with start_gateway() as gateway:
        async with start_owner("planner", ready):
            done = await gateway.client.post(f"/tasks/{task_id}/plan")
            assert (done.status_code, done.headers["Location"]) == (201, f"/plans/{PLAN}")
            assert {"plan_id", "status", "graph"} <= set(done.json())
            assert done.json()["graph"]["plan"][1]["deps"] == ["a"]
        async with start_owner("planner", slow):
            pending = await gateway.client.post(f"/tasks/{task_id}/plan")
            assert (pending.status_code, pending.headers["Location"]) == (202, f"/tasks/{task_id}")


async def test_plans_versions_differences_assignments_and_validation(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    plan = f"/plans/{PLAN}"
    async with start_owner("planner", answers()), start_gateway() as gateway:
        client = gateway.client
        made = await client.post("/plans", json={"task_id": str(uuid4()), "graph": [{"id": "a", "title": "x"}]})
        assert (made.status_code, made.headers["Location"]) == (201, f"/plans/{made.json()['plan_id']}")
        assert UUID((await client.get(plan)).json()["plan_id"]) == PLAN
        assert (await client.get(f"{plan}/versions")).json()["total"] == 1
        assert (await client.get(f"{plan}/versions/3")).json()["version"] == 3
        diff = (await client.get(f"{plan}/versions/3/diff?previous=1")).json()
        assert (diff["current_version"], diff["previous_version"]) == (3, 1)
        assert diff["changed_nodes"] == [{"id": "a", "changes": {"title": {"previous": "x", "current": "y"}}}]
        item = {"node_id": "a", "role": "writer", "agent_id": "ada", "llm_backend": "demo", "llm_model": "m"}
        saved = await client.post(f"{plan}/assignments", json={"items": [item]})
        assert (saved.status_code, saved.json()["updated"]) == (200, 1), "an upsert counts what is new as well"
        both = await client.post(f"{plan}/assignments", json={"items": [item, {**item, "node_id": "b"}]})
        assert (both.json()["updated"], both.json()["created"]) == (2, 1)
        assert (await client.post(f"{plan}/auto_assign")).json()["created"] == 2
        verdict = {"validated": False, "errors": ["too vague"]}
        refused = await client.post(f"{plan}/submit_for_validation", json=verdict)
        assert refused.json() == {"plan_id": str(PLAN), **verdict}
