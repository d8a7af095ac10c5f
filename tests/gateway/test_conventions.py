"""What holds for every route: request ids, zones, pages, ranges, problems, one effect per Idempotency-Key."""

from __future__ import annotations

import json
from datetime import datetime
from uuid import uuid4

import httpx

from chassis.context import Context
from chassis.testing.eventually import eventually
from chassis.unit_of_work import Answered
from contracts import executor, planner
from contracts.errors import Code, Rejection, RetryLater
from contracts.page import Page
from contracts.run_facts import RunStarted
from tests.gateway.builders import a_run, a_run_detail, a_task
from tests.gateway.conftest import KEY, StartGateway, StartOwner
from tests.gateway.sse import watch


async def test_health_needs_no_key_and_says_starting_until_every_owner_has_answered(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_gateway() as gateway, httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger:
        alone = (await stranger.get("/health")).json()
        assert (alone["status"], alone["db_ok"], alone["orchestrator"]) == ("starting", True, "down")
    owners = [start_owner(name) for name in ("planner", "executor", "feedback", "publisher", "rag")]
    async with owners[0], owners[1], owners[2], owners[3], owners[4], start_gateway() as gateway:
        found = (await gateway.client.get("/health")).json()
        assert found["status"] == "ok"
        assert set(found) >= {"status", "service", "version", "db_ok", "uptime_s", "orchestrator"}
        assert (await gateway.client.get("/livez")).status_code == 200
        assert (await gateway.client.get("/readyz")).json() == {"status": "ok", "failures": {}}


async def test_an_owner_that_is_down_is_a_503_that_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    response = await client.get("/tasks")
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["detail"] == "the service planner is not running"
    assert body["code"] == "unavailable"
    assert body["request_id"] == response.headers["X-Request-ID"]


async def test_request_ids_are_taken_over_made_up_and_refused(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health", headers={"X-Request-ID": "mine-1"})).headers["X-Request-ID"] == "mine-1"
    made_up = (await client.get("/nowhere")).headers["X-Request-ID"]
    assert len(made_up) == 32
    for bad in ("x" * 129, "with space", "tab\there", "ü"):
        response = await client.get("/health", headers={"X-Request-ID": bad.encode("latin-1")})
        assert response.status_code == 400, bad
        assert "X-Request-ID" in response.json()["detail"]


async def test_the_request_id_the_key_and_the_role_travel_to_the_owner(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    answers = {planner.ListTasks: lambda _: Page(items=[], total=0)}
    async with start_owner("planner", answers) as owner, start_gateway() as gateway:
        await gateway.client.get("/tasks", headers={"X-Request-ID": "trace-me", "X-Role": "viewer"})
        _, context = owner.asked[0]
        assert (context.request_id, context.actor, context.role) == ("trace-me", "env", "viewer")


async def test_timestamps_are_shown_in_the_zone_that_was_asked_for_and_texts_are_left_alone(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    answers = {
        planner.ListTasks: lambda _: Page(items=[a_task(title="2026-07-01T12:00:00Z")], total=1),
        executor.GetRun: lambda r: a_run_detail(a_run(id=r.run_id)),
    }
    async with start_owner("planner", answers), start_owner("executor", answers), start_gateway() as gateway:
        utc = (await gateway.client.get("/tasks")).json()["items"][0]
        paris = (await gateway.client.get("/tasks", headers={"X-Timezone": "Europe/Paris"})).json()["items"][0]
        assert utc["created_at"] == "2026-07-01T12:00:00Z"
        assert paris["created_at"] == "2026-07-01T14:00:00+02:00"
        assert paris["title"] == "2026-07-01T12:00:00Z"
        run = (await gateway.client.get(f"/runs/{uuid4()}", headers={"X-Timezone": "Asia/Kolkata"})).json()
        assert run["started_at"] == "2026-07-01T17:30:00+05:30"
        assert run["meta"] == {"since": "2026-07-01T12:00:00Z"}


async def test_events_are_shown_in_the_zone_that_was_asked_for(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    run_id, kolkata = uuid4(), {"X-Timezone": "Asia/Kolkata"}
    answers = {
        executor.GetRun: lambda r: a_run_detail(a_run(id=r.run_id)),
        planner.GetTask: lambda r: a_task(id=r.task_id),
    }
    async with start_owner("executor", answers) as owner, start_gateway() as gateway:
        fact = RunStarted(run_id=run_id, task_id=uuid4(), title="t")
        await owner.tell(fact)

        async def told() -> dict[str, str] | None:
            return next(iter((await gateway.client.get("/events")).json()["items"]), None)

        stored = (await eventually(told))["timestamp"]
        assert stored.endswith("Z")
        for path in ("/events", f"/runs/{run_id}/events", f"/tasks/{fact.task_id}/events"):
            shown = (await gateway.client.get(path, headers=kolkata)).json()["items"][0]["timestamp"]
            assert shown.endswith("+05:30"), path
            assert datetime.fromisoformat(shown) == datetime.fromisoformat(stored), "the same moment"
        run = (await gateway.client.get(f"/runs/{run_id}?include_events=1", headers=kolkata)).json()
        assert run["events"][0]["timestamp"] == shown
        for path in (f"/events/stream?run_id={run_id}", f"/runs/{run_id}/stream"):
            async with watch(gateway.client, path, headers=kolkata) as reader:
                await reader.until(lambda r: len(r.messages) == 1)
                assert json.loads(reader.messages[0].data)["timestamp"] == shown, path


async def test_an_unknown_zone_is_a_400(client: httpx.AsyncClient) -> None:
    for zone in ("Mars/Olympus", "Europe", "../etc/passwd", "europe/paris", "UTC+2"):
        response = await client.get("/events", headers={"X-Timezone": zone})
        assert response.status_code == 400, zone
        assert "IANA" in response.json()["detail"]


async def test_pages_carry_links_a_link_header_and_the_total(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    answers = {planner.ListTasks: lambda r: Page(items=[a_task() for _ in range(r.limit)], total=45)}
    async with start_owner("planner", answers) as owner, start_gateway() as gateway:
        url = f"/tasks?status=draft&limit=10&offset=20&order_by=title&order_dir=desc&api_key={KEY}"
        response = await gateway.client.get(url)
        body = response.json()
        assert (body["total"], body["limit"], body["offset"], len(body["items"])) == (45, 10, 20, 10)
        kept = "status=draft&order_by=title&order_dir=desc&limit=10"
        assert body["_links"] == {"prev": f"/tasks?{kept}&offset=10", "next": f"/tasks?{kept}&offset=30"}
        assert response.headers["X-Total-Count"] == "45"
        assert response.headers["Link"] == (
            f'</tasks?{kept}&offset=10>; rel="prev", </tasks?{kept}&offset=30>; rel="next"'
        )
        asked, _ = owner.asked[0]
        assert (asked.order_by, asked.limit, asked.offset, asked.status) == ("-title", 10, 20, "draft")
        last = await gateway.client.get("/tasks?limit=50&offset=0")
        assert last.json()["_links"] == {"prev": None, "next": None}
        assert "Link" not in last.headers


async def test_bounds_of_pages_are_refused_with_422(client: httpx.AsyncClient) -> None:
    for query in ("limit=0", "limit=201", "offset=-1", "limit=x", "offset=99999999999999999999", "order_dir=up"):
        response = await client.get(f"/tasks?{query}")
        assert response.status_code == 422, query
        (error,) = response.json()["detail"]
        assert error["loc"] == ["query", query.split("=", maxsplit=1)[0]]


async def test_an_unknown_order_is_a_422_that_names_the_allowed_ones(client: httpx.AsyncClient) -> None:
    response = await client.get("/events?order_by=-colour")
    assert response.status_code == 422
    assert "timestamp, level, cursor" in response.json()["detail"][0]["msg"]


async def test_senseless_ranges_are_a_400(client: httpx.AsyncClient) -> None:
    for query, says in (
        ("ts_from=2026-02-01T00:00:00Z&ts_to=2026-01-01T00:00:00Z", "swap"),
        ("ts_from=2026-01-01T00:00:00Z&ts_to=2026-02-02T00:00:00Z", "31 days"),
        ("ts_from=0001-01-01T00:00:00%2B14:00", "calendar"),
    ):
        response = await client.get(f"/events?{query}")
        assert response.status_code == 400, query
        assert says in response.json()["detail"]


async def test_the_same_idempotency_key_is_the_same_command_and_another_path_is_another(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    answers = {
        planner.CreateTask: lambda r: planner.TaskCreated(task=a_task(title=r.title)),
        planner.UpdateTask: lambda r: a_task(id=r.task_id),
    }
    async with start_owner("planner", answers) as owner, start_gateway() as gateway:
        key = {"Idempotency-Key": "once only"}
        for _ in range(2):
            assert (await gateway.client.post("/tasks", json={"title": "t"}, headers=key)).status_code == 201
        await gateway.client.patch(f"/tasks/{uuid4()}", json={"archived": True}, headers=key)
        await gateway.client.post("/tasks", json={"title": "t"}, headers={"X-Request-ID": "same"})
        await gateway.client.post("/tasks", json={"title": "t"}, headers={"X-Request-ID": "same"})
        commands = [request.command_id for request, _ in owner.asked]
        assert commands[0] == commands[1]
        assert len(set(commands)) == 4, "a request id alone makes no two calls one"
        too_long = await gateway.client.post("/tasks", json={"title": "t"}, headers={"Idempotency-Key": "x" * 256})
        assert too_long.status_code == 422


async def test_a_place_with_several_addresses_takes_an_idempotency_key_once(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    task, ours, acme = uuid4(), "/companies/default", "/companies/acme"
    answers = {
        planner.CreateTask: lambda r: planner.TaskCreated(task=a_task(title=r.title)),
        planner.GetTask: lambda r: a_task(id=r.task_id, company_id=r.company, project_id="site"),
        planner.StartTask: lambda r: planner.RunAccepted(run_id=uuid4(), task_id=r.task_id),
    }
    same = (
        ("/tasks", f"{ours}/tasks", f"{ours}/projects/default/tasks"),
        (f"{ours}/projects/site/tasks",),
        (f"{acme}/tasks", f"{acme}/projects/default/tasks"),
        (f"/tasks/{task}/run", f"{ours}/tasks/{task}/run", f"{ours}/projects/site/tasks/{task}/run"),
        (f"{acme}/tasks/{task}/run", f"{acme}/projects/site/tasks/{task}/run"),
    )
    async with start_owner("planner", answers) as owner, start_gateway() as gateway:
        for path in (path for paths in same for path in paths):
            answer = await gateway.client.post(path, json={"title": "t"}, headers={"Idempotency-Key": "once"})
            assert answer.is_success, (path, answer.text)
        commands = [asked.command_id for asked, _ in owner.asked if not isinstance(asked, planner.GetTask)]
        found = [{commands.pop(0) for _ in paths} for paths in same]
        assert [len(ids) for ids in found] == [1] * len(same)
        assert len(set.union(*found)) == len(same)


async def test_a_repeated_order_is_answered_the_same_and_says_so(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async def create(request: planner.CreateTask) -> planner.TaskCreated:
        async with owner.chassis.uow.order(request, Context()) as tx:
            return tx.answer(planner.TaskCreated(task=a_task(title=request.title)))

    async def start(request: planner.StartTask) -> planner.RunAccepted:
        """As the planner does: it makes sure of the start, whether the order is new or not."""
        try:
            async with owner.chassis.uow.order(request, Context()) as tx:
                return tx.answer(planner.RunAccepted(run_id=uuid4(), task_id=request.task_id))
        except Answered as before:
            return planner.RunAccepted.model_validate(before.answer)

    answers = {planner.CreateTask: create, planner.StartTask: start}
    async with start_owner("planner", answers) as owner, start_gateway() as gateway:
        for path, body in (("/tasks", {"title": "t"}), (f"/tasks/{uuid4()}/start", None)):
            key = {"Idempotency-Key": "once"}
            first, again, other = [
                await gateway.client.post(path, json=body, headers=headers) for headers in (key, key, {})
            ]
            assert (again.status_code, again.json()) == (first.status_code, first.json())
            replayed = [answer.headers.get("Idempotent-Replayed") for answer in (first, again, other)]
            assert replayed == [None, "true", None], path
            assert other.json() != first.json()


REFUSALS: tuple[tuple[Exception, int], ...] = (
    (Rejection(Code.NOT_FOUND, "no such task"), 404),
    (Rejection(Code.TITLE_TAKEN, "there is one"), 409),
    (Rejection(Code.RUN_ACTIVE, "it runs", run_id="r"), 409),
    (Rejection(Code.NOTHING_TO_SKIP, "nothing"), 400),
    (Rejection(Code.IDEMPOTENCY_MISMATCH, "another body"), 422),
    (Rejection(Code.IN_FLIGHT, "still at it"), 409),
    (Rejection(Code.INVALID, "bad", errors=[{"loc": ["title"], "msg": "no", "type": "t"}, "plain text"]), 422),
    (RetryLater(7.2, "later"), 503),
    (ZeroDivisionError(), 500),
)


async def test_what_an_owner_refuses_becomes_a_problem_with_its_status(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    refusals = iter(REFUSALS)

    def refuse(_: planner.GetTask) -> planner.Task:
        raise next(refusals)[0]

    async with start_owner("planner", {planner.GetTask: refuse}), start_gateway() as gateway:
        for refusal, status in REFUSALS:
            response = await gateway.client.get(f"/tasks/{uuid4()}")
            body = response.json()
            assert (response.status_code, body["status"]) == (status, status), refusal
            assert set(body) == {"type", "title", "status", "code", "detail", "details", "request_id"}
            assert isinstance(body["detail"], list if status == 422 else str)
            if status == 503:
                assert response.headers["Retry-After"] == "8"
            if body["code"] == "run_active":
                assert body["details"] == {"run_id": "r"}
            if body["code"] == "invalid":
                assert [e["msg"] for e in body["detail"]] == ["no", "plain text"]


async def test_only_allowed_origins_may_read_answers(start_gateway: StartGateway) -> None:
    async with start_gateway(allowed_origins="https://cockpit.example") as gateway:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "X-API-Key"}
        good = await gateway.client.options("/tasks", headers={"Origin": "https://cockpit.example", **ask})
        assert good.headers["access-control-allow-origin"] == "https://cockpit.example"
        bad = await gateway.client.options("/tasks", headers={"Origin": "https://elsewhere.example", **ask})
        assert bad.status_code == 400
        refused = await gateway.client.get("/tasks", headers={"Origin": "https://cockpit.example", "X-API-Key": "no"})
        assert refused.headers["access-control-allow-origin"] == "https://cockpit.example", "errors can be read too"
