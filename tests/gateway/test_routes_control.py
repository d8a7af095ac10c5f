"""Orders to runs, nodes and tasks over HTTP: who asks, what was asked for, once, and how everything stands."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.context import Context
from chassis.testing.eventually import eventually
from contracts import executor, planner, run_control, task_control, weather
from contracts.errors import Code, Rejection
from contracts.executor import Control, ControlMode, RunStatus
from contracts.page import Page
from contracts.planner import TaskControl, TaskWasCreated
from contracts.run_facts import NodeStarted, RunStarted
from tests.gateway.builders import NOON, a_run, a_run_detail, a_task
from tests.gateway.conftest import Gateway, StartGateway, StartOwner

RUN, NODE, TASK, WORKER = uuid4(), uuid4(), uuid4(), uuid4()
CONTROL = Control(wanted="pause", asked_at=NOON, asked_by="ada", mode="finish", effective_at=None, finishing=2)


def controlled(_: Any) -> executor.RunControlled:
    return executor.RunControlled(status="paused", actual="running", wanted="pause", control=CONTROL)


def runtime(request: run_control.GetRuntime) -> run_control.Runtime:
    return run_control.Runtime(
        run_id=request.run_id,
        status="running",
        nodes_by_status={"completed": 2, "running": 1},
        attempts=4,
        worker_id=WORKER,
        worker_host="here",
        lease_until=NOON,
        error=None,
        cost_usd="0.0031",
        started_at=NOON,
        ended_at=None,
    )


def of_the_executor() -> dict[type[Any], Any]:
    return {
        executor.ControlRun: controlled,
        executor.GetRun: lambda r: a_run_detail(a_run(id=r.run_id, control=CONTROL)),
        executor.ListRuns: lambda _: Page(items=[a_run(id=RUN)], total=1),
        run_control.GetRuntime: runtime,
        run_control.ExplainWaiting: lambda r: run_control.WaitingFor(
            run_id=r.run_id, status="running", wanted="run", items=[]
        ),
        run_control.ControlNode: lambda r: run_control.NodeControlled(
            node_id=r.node_id, run_id=RUN, status_after="queued", actual="completed", sidecar_updated=True
        ),
        weather.ListProviders: lambda _: weather.Weather(items=[]),
    }


def of_the_planner() -> dict[type[Any], Any]:
    accepted = planner.RunAccepted(run_id=RUN, task_id=TASK)

    def links(request: Any) -> task_control.TaskLinks:
        return task_control.TaskLinks(task_id=request.task_id, items=[a_task()], waiting=True)

    return {
        planner.GetTask: lambda r: a_task(id=r.task_id, run_id=RUN, status="running"),
        planner.StartTask: lambda _: accepted,
        task_control.RetryTask: lambda _: accepted,
        task_control.ControlTask: lambda r: task_control.TaskControlled(
            task_id=r.task_id, run_id=RUN, status="paused", actual="running", control=TaskControl(pause=True)
        ),
        task_control.AddDependencies: links,
        task_control.RemoveDependency: links,
        task_control.ListDependencies: links,
        task_control.ListDependents: links,
    }


async def test_an_order_to_a_run_says_who_gave_it_and_what_becomes_of_running_calls(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    ada = {"X-Actor": "ada", "X-Request-ID": "r-1"}
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        paused = await gateway.client.patch(f"/runs/{RUN}?mode=interrupt", json={"action": "pause"}, headers=ada)
        assert paused.status_code == 200
        assert set(paused.json()) == {"status", "actual", "wanted", "skipped_nodes", "control"}
        assert paused.json()["control"]["finishing"] == 2
        order, _ = owner.asked[-1]
        assert (order.mode, order.by) == (ControlMode.INTERRUPT, "ada, admin (request r-1)")
        await gateway.client.patch(f"/runs/{RUN}?mode=interrupt", json={"action": "pause", "mode": "finish"})
        assert owner.asked[-1][0].mode is ControlMode.FINISH, "the body wins"
        viewer = {"X-Role": "editor", "X-Request-ID": "r-2"}
        canceled = await gateway.client.post(f"/runs/{RUN}/cancel", headers=viewer)
        assert canceled.status_code == 202
        order, _ = owner.asked[-1]
        assert (order.action, order.mode, order.by) == ("cancel", ControlMode.FINISH, "editor (request r-2)")


async def test_orders_that_make_no_sense_are_refused_before_anybody_is_asked(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        for path, body, status, says in (
            (f"/runs/{RUN}", {"action": "explode"}, 400, "skip_failed_and_resume"),
            (f"/nodes/{NODE}", {"action": "explode"}, 400, "override"),
            (f"/nodes/{NODE}", {"action": "pause", "mode": "gently"}, 422, "interrupt"),
            (f"/nodes/{NODE}?mode=gently", {"action": "pause"}, 422, "interrupt"),
            (f"/nodes/{NODE}", {"action": "override", "promt": "x"}, 422, "promt"),
        ):
            refused = await gateway.client.patch(path, json=body)
            assert refused.status_code == status, (path, body)
            assert says in refused.text
        for actor in (b"", "jos\u00e9".encode("latin-1"), b"x" * 51):
            order = await gateway.client.post(f"/runs/{RUN}/cancel", headers={"X-Actor": actor})
            assert (order.status_code, "X-Actor" in order.text) == (422, True), actor
        assert owner.asked == []


async def test_an_illegal_order_is_a_409_with_the_state_and_what_would_be_legal(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def refuse(_: Any) -> Any:
        raise Rejection(Code.ILLEGAL_STATE, "the run is failed", state="failed", legal=["skip_failed_and_resume"])

    answers = {executor.ControlRun: refuse, run_control.ControlNode: refuse}
    async with (
        start_owner("executor", answers),
        start_owner("planner", {task_control.ControlTask: refuse}),
        start_gateway() as gateway,
    ):
        for method, path, body in (
            ("PATCH", f"/runs/{RUN}", {"action": "pause"}),
            ("PATCH", f"/nodes/{NODE}", {"action": "pause"}),
            ("POST", f"/tasks/{TASK}/resume", None),
        ):
            refused = await gateway.client.request(method, path, json=body)
            assert refused.status_code == 409, path
            assert refused.json()["details"] == {"state": "failed", "legal": ["skip_failed_and_resume"]}


async def test_an_order_that_is_repeated_by_another_request_is_the_same_order(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async def control(request: executor.ControlRun) -> executor.RunControlled:
        async with owner.chassis.uow.order(request, Context()) as tx:
            return tx.answer(controlled(request))

    async with start_owner("executor", {executor.ControlRun: control}) as owner, start_gateway() as gateway:
        answers = [
            await gateway.client.patch(
                f"/runs/{RUN}", json={"action": action}, headers={"Idempotency-Key": "once", "X-Request-ID": request_id}
            )
            for action, request_id in (("pause", "r-1"), ("pause", "r-2"), ("cancel", "r-3"))
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 422]
        assert answers[1].json() == answers[0].json()
        assert answers[1].headers["Idempotent-Replayed"] == "true"
        assert len({request.by for request, _ in owner.asked}) == 3


async def test_a_node_is_overridden_with_a_prompt_and_parameters(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    body = {"action": "override", "prompt": "Shorter", "params": {"temperature": 0}}
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        answer = await gateway.client.patch(f"/nodes/{NODE}?mode=interrupt", json=body)
        assert {"node_id", "status_after", "sidecar_updated"} <= set(answer.json())
        order, _ = owner.asked[-1]
        assert (order.action, order.prompt, order.params) == ("override", "Shorter", {"temperature": 0})
        assert order.mode is ControlMode.INTERRUPT
        assert order.by.startswith("admin (request ")


async def test_what_waits_and_how_the_providers_are_is_asked_of_the_executor(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", of_the_executor()), start_gateway() as gateway:
        waiting = (await gateway.client.get(f"/runs/{RUN}/waiting")).json()
        assert waiting == {"run_id": str(RUN), "status": "running", "wanted": "run", "items": []}
        assert (await gateway.client.get("/providers")).json() == {"items": []}


@pytest.mark.parametrize("action", list(task_control.TaskAction))
async def test_a_task_is_ordered_about_by_a_path_for_each_action(
    start_gateway: StartGateway, start_owner: StartOwner, action: str
) -> None:
    async with start_owner("planner", of_the_planner()) as owner, start_gateway() as gateway:
        answer = await gateway.client.post(f"/tasks/{TASK}/{action}", headers={"X-Request-ID": "r-1"})
        assert answer.status_code == 200
        assert {"status", "actual", "control"} <= set(answer.json())
        order, _ = owner.asked[-1]
        assert (order.action, order.task_id, order.by) == (action, TASK, "admin (request r-1)")


async def test_a_task_is_run_again_and_retried_and_its_runs_are_listed(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("planner", of_the_planner()) as owner,
        start_owner("executor", of_the_executor()) as executing,
        start_gateway() as gateway,
    ):
        for path, fresh in (("run", None), ("retry", False), ("retry?fresh=true", True)):
            started = await gateway.client.post(f"/tasks/{TASK}/{path}")
            location = f"/runs/{RUN}"
            accepted = {"run_id": str(RUN), "task_id": str(TASK), "status": "accepted", "location": location}
            assert (started.status_code, started.json()) == (202, accepted)
            assert started.headers["Location"] == location
            assert getattr(owner.asked[-1][0], "fresh", None) is fresh
        await gateway.client.post(f"/tasks/{TASK}/pause?mode=interrupt")
        assert owner.asked[-1][0].mode is ControlMode.INTERRUPT
        page = (await gateway.client.get(f"/tasks/{TASK}/runs?limit=5")).json()
        assert (page["total"], page["items"][0]["id"]) == (1, str(RUN))
        assert (executing.asked[-1][0].task_id, executing.asked[-1][0].limit) == (TASK, 5)


async def test_a_task_s_status_is_one_answer_from_both_owners(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    block = {
        "job_id": str(RUN),
        "started_at": "2026-07-01T12:00:00Z",
        "finished_at": None,
        "error": None,
        "attempts": 4,
        "worker_id": str(WORKER),
    }
    async with (
        start_owner("planner", of_the_planner()),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        found = (await gateway.client.get(f"/tasks/{TASK}/status")).json()
        assert (found["task"]["id"], found["run"]["id"]) == (str(TASK), str(RUN))
        assert found["run"]["control"]["finishing"] == 2
        assert (found["nodes"], found["attempts"], found["cost_usd"]) == ({"completed": 2, "running": 1}, 4, "0.0031")
        assert found["worker"] == {"id": str(WORKER), "host": "here", "lease_until": "2026-07-01T12:00:00Z"}
        assert (found["runtime"], found["degraded"]) == (block, [])
        task = (await gateway.client.get(f"/tasks/{TASK}")).json()
        assert (task["runtime"], task["degraded"]) == (block, [])
        assert set(task["control"]) >= {"pause", "cancel"}


async def test_without_its_executor_a_task_is_shown_with_the_missing_parts_named(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("planner", of_the_planner()), start_gateway() as gateway:
        found = (await gateway.client.get(f"/tasks/{TASK}/status")).json()
        assert found["task"]["id"] == str(TASK)
        assert set(found["degraded"]) == {"run", "nodes", "attempts", "worker", "error", "cost_usd", "runtime"}
        assert {found[name] for name in found["degraded"]} == {None}
        task = (await gateway.client.get(f"/tasks/{TASK}")).json()
        assert (task["runtime"], task["degraded"]) == (None, ["runtime"])


async def test_a_task_that_never_ran_or_whose_run_is_over_or_forgotten_has_no_active_run(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def unknown(_: Any) -> Any:
        raise Rejection(Code.NOT_FOUND, "there is no such run")

    never = of_the_planner() | {planner.GetTask: lambda r: a_task(id=r.task_id)}
    over = of_the_executor()
    over[executor.GetRun] = lambda r: a_run_detail(a_run(id=r.run_id, status=RunStatus.COMPLETED, ended_at=NOON))
    forgotten = {executor.GetRun: unknown, run_control.GetRuntime: unknown}
    async with start_gateway() as gateway:
        async with start_owner("planner", never):
            found = (await gateway.client.get(f"/tasks/{TASK}/status")).json()
            assert (found["run"], found["nodes"], found["degraded"]) == (None, {}, [])
            assert found["runtime"]["job_id"] is None
        async with start_owner("planner", of_the_planner()):
            async with start_owner("executor", over):
                found = (await gateway.client.get(f"/tasks/{TASK}/status")).json()
                assert (found["run"], found["nodes"]) == (None, {"completed": 2, "running": 1})
            async with start_owner("executor", forgotten):
                found = (await gateway.client.get(f"/tasks/{TASK}/status")).json()
                assert (found["run"], found["degraded"], found["runtime"]["job_id"]) == (None, [], str(RUN))


async def test_the_events_of_a_task_are_its_own_and_those_of_all_its_runs(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def unknown(_: Any) -> Any:
        raise Rejection(Code.NOT_FOUND, "there is no such task")

    other = uuid4()
    async with (
        start_owner("planner", {planner.GetTask: unknown}) as planning,
        start_owner("executor") as executing,
        start_gateway() as gateway,
    ):
        await planning.tell(TaskWasCreated(task_id=TASK, title="t"), TaskWasCreated(task_id=other, title="o"))
        await executing.tell(
            RunStarted(run_id=RUN, task_id=TASK, title="t"),
            NodeStarted(run_id=RUN, node_id=NODE, key="a", attempt=1, title="x"),
            RunStarted(run_id=uuid4(), task_id=other, title="o"),
        )
        await eventually(lambda: events_told(gateway, 5))
        page = (await gateway.client.get(f"/tasks/{TASK}/events")).json()
        assert {e["level"] for e in page["items"]} == {"TASK_CREATED", "RUN_STARTED", "NODE_STARTED"}
        assert page["total"] == 3
        one = (await gateway.client.get(f"/tasks/{TASK}/events?level=node_started")).json()
        assert [UUID(e["node_id"]) for e in one["items"]] == [NODE]
        assert (await gateway.client.get(f"/tasks/{uuid4()}/events")).status_code == 404


async def events_told(gateway: Gateway, count: int) -> bool:
    return bool((await gateway.client.get("/events")).json()["total"] == count)


async def test_tasks_wait_for_tasks(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    other = uuid4()
    async with start_owner("planner", of_the_planner()) as owner, start_gateway() as gateway:
        path = f"/tasks/{TASK}/dependencies"
        added = await gateway.client.post(path, json={"depends_on": [str(other)]})
        assert (added.status_code, added.json()["waiting"]) == (201, True)
        assert owner.asked[-1][0].depends_on == [other]
        assert (await gateway.client.get(path)).json()["items"][0]["title"] == "a task"
        removed = await gateway.client.delete(f"{path}/{other}")
        assert (removed.status_code, owner.asked[-1][0].depends_on) == (200, other)
        assert (await gateway.client.get(f"/tasks/{TASK}/dependents")).json()["task_id"] == str(TASK)
        for body in ({"depends_on": []}, {"depends_on": [str(other)] * 101}, {"depends": []}):
            assert (await gateway.client.post(path, json=body)).status_code == 422
