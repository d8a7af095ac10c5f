"""Companies over HTTP: the same routes once more under each company, and nobody's things under another's path."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

from chassis.testing.eventually import eventually
from contracts import executor, planner, run_control, task_control
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.run_facts import RunCompleted, RunStarted
from tests.gateway.builders import NOON, a_run, a_run_detail, a_task
from tests.gateway.conftest import StartGateway, StartOwner
from tests.gateway.sse import watch

RUN, TASK = uuid4(), uuid4()


def only_acme(request: Any) -> None:
    """As the owners do: what is another company's is not there."""
    if request.company != "acme":
        raise Rejection(Code.NOT_FOUND, "there is no such thing")


def of_the_planner() -> dict[type[Any], Any]:
    def task(request: planner.GetTask) -> planner.Task:
        only_acme(request)
        return a_task(id=request.task_id, company_id="acme", project_id="website", run_id=RUN)

    def accepted(request: Any) -> planner.RunAccepted:
        only_acme(request)
        return planner.RunAccepted(run_id=RUN, task_id=request.task_id)

    def created(request: planner.CreateTask) -> planner.TaskCreated:
        return planner.TaskCreated(task=a_task(id=TASK, company_id=request.company, project_id=request.project))

    return {
        planner.GetTask: task,
        planner.CreateTask: created,
        planner.LaunchTask: lambda r: planner.RunAccepted(run_id=RUN, task_id=TASK),
        planner.ListTasks: lambda _: Page(items=[a_task()], total=1),
        planner.StartTask: accepted,
        task_control.RetryTask: accepted,
        task_control.ControlTask: lambda r: task_control.TaskControlled(
            task_id=r.task_id, run_id=None, status="ready", actual="ready", control=planner.TaskControl()
        ),
        task_control.ListCompanies: lambda _: Page(items=[company("default"), company("acme")], total=2),
        task_control.CreateCompany: lambda r: company(r.id),
        task_control.ListProjects: lambda r: Page(items=[project(r.company, "default")], total=1),
        task_control.CreateProject: lambda r: project(r.company, r.id),
    }


def of_the_executor() -> dict[type[Any], Any]:
    def run(request: executor.GetRun) -> executor.RunDetail:
        only_acme(request)
        return a_run_detail(a_run(id=request.run_id))

    def runtime(request: run_control.GetRuntime) -> run_control.Runtime:
        only_acme(request)
        nothing = dict.fromkeys(
            ("worker_id", "worker_host", "lease_until", "error", "cost_usd", "started_at", "ended_at")
        )
        return run_control.Runtime(run_id=RUN, status="queued", nodes_by_status={}, attempts=0, **nothing)

    return {
        executor.GetRun: run,
        run_control.GetRuntime: runtime,
        executor.ListRuns: lambda _: Page(items=[a_run(id=RUN)], total=1),
    }


def company(id: str) -> task_control.Company:
    return task_control.Company(id=id, name=id.title(), created_at=NOON)


def project(company: str, id: str) -> task_control.Project:
    return task_control.Project(company_id=company, id=id, name=id.title(), created_at=NOON)


async def test_companies_and_their_projects_are_made_and_listed(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("planner", of_the_planner()) as owner, start_gateway() as gateway:
        made = await gateway.client.post("/companies", json={"id": "acme", "name": "Acme Ltd"})
        assert (made.status_code, made.json()["id"]) == (201, "acme")
        assert (await gateway.client.get("/companies")).json()["total"] == 2
        made = await gateway.client.post("/companies/acme/projects", json={"id": "website", "name": "The site"})
        assert (made.status_code, made.json()["company_id"]) == (201, "acme")
        assert (await gateway.client.get("/companies/acme/projects")).json()["items"][0]["company_id"] == "acme"
        assert {request.company for request, _ in owner.asked[-2:]} == {"acme"}
        for id in ("Acme", "a b", "-a", "x" * 40, ""):
            assert (await gateway.client.post("/companies", json={"id": id, "name": "n"})).status_code == 422


async def test_a_task_of_a_project_is_created_with_what_fluidmanager_knows_of_it(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    path, other = "/companies/acme/projects/website/tasks", uuid4()
    work = {"job_type": "page", "payload": {"url": "/"}, "assignee": "ada", "priority": 3, "dependencies": [str(other)]}
    async with start_owner("planner", of_the_planner()) as owner, start_gateway() as gateway:
        made = await gateway.client.post(path, json={"title": "t"} | work)
        assert (made.status_code, made.headers["Location"]) == (201, f"/companies/acme/tasks/{TASK}")
        order, _ = owner.asked[-1]
        assert (order.company, order.project, order.dependencies) == ("acme", "website", [other])
        assert (order.job_type, order.payload, order.assignee, order.priority) == ("page", {"url": "/"}, "ada", 3)
        same = await gateway.client.post(path, json={"title": "t", "project": "website"})
        assert same.status_code == 201
        torn = await gateway.client.post(path, json={"title": "t", "project": "default"})
        assert (torn.status_code, "leave it out" in torn.json()["detail"]) == (400, True)
        adhoc = {"title": "t", "task_spec": {"type": "demo"}}
        launched = await gateway.client.post(path, json=adhoc)
        assert launched.headers["Location"] == f"/companies/acme/runs/{RUN}"
        assert (owner.asked[-1][0].company, owner.asked[-1][0].project) == ("acme", "website")
        refused = await gateway.client.post(path, json=adhoc | {"priority": 3, "assignee": "ada"})
        assert (refused.status_code, "assignee, priority" in refused.json()["detail"]) == (400, True)
        assert (await gateway.client.get(path)).json()["total"] == 1
        assert (owner.asked[-1][0].company, owner.asked[-1][0].project) == ("acme", "website")
        await gateway.client.post("/tasks", json={"title": "t"})
        assert (owner.asked[-1][0].company, owner.asked[-1][0].project) == ("default", "default")


async def test_a_task_under_another_company_s_or_project_s_path_is_not_there(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("planner", of_the_planner()) as owner,
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        for method, path in (("POST", "run"), ("POST", "retry"), ("GET", "runs")):
            asked = len(owner.asked)
            for scope, status in (
                ("/companies/acme/projects/website", 202 if method == "POST" else 200),
                ("/companies/acme/projects/default", 404),
                ("/companies/other/projects/website", 404),
                ("/companies/Acme/projects/website", 422),
                ("/companies/acme/projects/Website", 422),
            ):
                answer = await gateway.client.request(method, f"{scope}/tasks/{TASK}/{path}")
                assert answer.status_code == status, (scope, path)
            orders = [r for r, _ in owner.asked[asked:] if not isinstance(r, planner.GetTask)]
            assert len(orders) == (method == "POST"), "only under its own path"
        for path in ("", "/status"):
            assert (await gateway.client.get(f"/companies/acme/tasks/{TASK}{path}")).status_code == 200
            assert (await gateway.client.get(f"/companies/other/tasks/{TASK}{path}")).status_code == 404
            assert (await gateway.client.get(f"/tasks/{TASK}{path}")).status_code == 404


async def test_a_run_is_found_where_its_location_says(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with (
        start_owner("planner", of_the_planner()),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        started = await gateway.client.post(f"/companies/acme/tasks/{TASK}/run")
        assert (await gateway.client.get(started.headers["Location"])).json()["id"] == str(RUN)
        assert (await gateway.client.get(f"/runs/{RUN}")).status_code == 404


async def test_an_order_is_told_apart_from_the_same_one_in_another_company(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    key = {"Idempotency-Key": "once"}
    async with start_owner("planner", of_the_planner()) as owner, start_gateway() as gateway:
        for scope in ("/companies/acme", "/companies/acme", "/companies/other", ""):
            assert (await gateway.client.post(f"{scope}/tasks/{TASK}/pause", headers=key)).status_code == 200
        companies = [request.company for request, _ in owner.asked]
        assert companies == ["acme", "acme", "other", "default"]
        commands: list[UUID] = [request.command_id for request, _ in owner.asked]
        assert (commands[0] == commands[1], len(set(commands))) == (True, 3)


async def test_events_and_streams_are_those_of_the_company_in_the_path(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    counts: dict[str, Any] = {"nodes_completed": 1, "nodes_skipped": 0, "cost_usd": "0", "tokens": 0}
    async with start_owner("executor", of_the_executor()) as owner, start_gateway() as gateway:
        about = {"company": "acme", "run_id": RUN, "title": "r"}
        await owner.tell(RunStarted(**about), RunCompleted(**about, **counts))
        await eventually(lambda: _told(gateway.parts.feed, 2))
        assert (await gateway.client.get("/companies/acme/events")).json()["total"] == 2
        assert (await gateway.client.get("/events")).json()["total"] == 0
        async with watch(gateway.client, f"/companies/acme/runs/{RUN}/stream", "bbbbbbbb.7") as reader:
            await reader.until_end()
        assert reader.events() == ["reset", "message", "message", "end"]
        assert f"/companies/acme/runs/{RUN}" in reader.frames[0].data
        assert (await gateway.client.get(f"/runs/{RUN}/stream")).status_code == 404


async def test_a_company_that_holds_nothing_has_empty_pages_and_one_that_there_is_not_is_not_found(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    def projects(request: task_control.ListProjects) -> Page[task_control.Project]:
        only_acme(request)
        return Page(items=[project("acme", "default")], total=1)

    empty = {executor.ListRuns: lambda _: Page(items=[], total=0)}
    async with start_owner("executor", empty), start_gateway() as gateway:
        for path in ("/runs", "/events"):
            assert (await gateway.client.get(path)).json()["total"] == 0, "there is always a company `default`"
            assert (await gateway.client.get(f"/companies/default{path}")).json()["total"] == 0
            assert (await gateway.client.get(f"/companies/acme{path}")).status_code == 503, "nobody knows"
        async with start_owner("planner", {task_control.ListProjects: projects}):
            for path in ("/runs", "/events"):
                assert (await gateway.client.get(f"/companies/acme{path}")).json()["total"] == 0
                unknown = await gateway.client.get(f"/companies/nobodys{path}")
                assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found"), path


async def _told(feed: Any, count: int) -> bool:
    return bool(await feed.count_of_run("acme", RUN) == count)
