"""Who gets in, and as what; and which settings the gateway refuses to start with."""

from __future__ import annotations

import logging
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import Request

from chassis.settings import BadSettings
from contracts import planner
from contracts.page import Page
from services.gateway.app import OPEN_PATHS, create_app
from services.gateway.auth import Keyless
from services.gateway.settings import GatewaySettings
from tests.gateway.builders import a_task
from tests.gateway.conftest import KEY, Gateway, StartGateway, StartOwner


def routes(gateway: Gateway) -> list[tuple[str, str]]:
    """Every operation there is, with ids filled in."""
    found = []
    for path, operations in gateway.app.openapi()["paths"].items():
        concrete = path.replace("{version}", "1").replace("{owner}", "planner")
        for name in ("task_id", "plan_id", "run_id", "node_id", "letter_id"):
            concrete = concrete.replace(f"{{{name}}}", str(uuid4()))
        found += [(method.upper(), concrete) for method in operations]
    return found


async def test_every_route_but_health_wants_a_key(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger:
        for method, path in routes(gateway):
            for headers in ({}, {"X-API-Key": "wrong"}, {"X-API-Key": "ü".encode("latin-1")}):
                response = await stranger.request(method, path, headers=headers)
                if path in OPEN_PATHS:
                    assert response.status_code == 200, path
                    continue
                assert response.status_code == 401, (method, path)
                assert response.headers["WWW-Authenticate"] == "ApiKey"
                assert response.json()["code"] == "unauthenticated"


async def test_the_key_may_come_in_the_url_and_is_in_no_log(
    gateway: Gateway, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger:
        good = await stranger.get(f"/events?api_key={KEY}&limit=1")
        bad = await stranger.get("/events?limit=1&api_key=wrong-secret")
    assert (good.status_code, bad.status_code) == (200, 401)
    assert good.json()["_links"] == {"prev": None, "next": None}
    server_side = "".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    everything = server_side + "".join(capsys.readouterr())
    assert KEY not in everything
    assert "wrong-secret" not in everything


async def test_the_key_in_the_url_works_for_orders_too_as_it_always_did(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    answers = {planner.CreateTask: lambda r: planner.TaskCreated(task=a_task(title=r.title))}
    async with (
        start_owner("planner", answers),
        start_gateway() as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger,
    ):
        answer = await stranger.post(f"/tasks?api_key={KEY}", json={"title": "t"})
    assert answer.status_code == 201
    assert KEY not in str(dict(answer.headers))


async def test_what_runs_inside_the_app_never_sees_the_key_in_the_url() -> None:
    app = Keyless()

    @app.get("/seen")
    async def seen(request: Request) -> list[str]:
        return [str(request.url), request.headers["x-api-key"]]

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as stranger:
        for query in ("limit=1&api_key=secret&q=a%20b", "api_key=secret&limit=1&q=a+b&api_key=other-secret"):
            assert (await stranger.get(f"/seen?{query}")).json() == ["http://api/seen?limit=1&q=a+b", "secret"]


OWN_NAMES = (
    "localhost",
    "LOCALHOST:8000",
    "127.0.0.1:8000",
    "127.1.2.3",
    "[::1]:8000",
    "p-1.localhost:8001",
    "localhost.",
)
OTHER_NAMES = (
    "evil.example",
    "evil.example:8000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.7",
    "",
    "[::2]",
)


@pytest.mark.parametrize("settings", [{}, {"require_api_key": False}])
async def test_while_everybody_knows_the_key_the_api_answers_to_names_of_this_machine_only(
    start_gateway: StartGateway, settings: dict[str, Any]
) -> None:
    """Or a website whose name leads here (DNS rebinding) could do everything with it."""
    async with start_gateway(**settings) as gateway:
        for host in OWN_NAMES:
            assert (await gateway.client.get("/events", headers={"Host": host})).status_code == 200, host
        for host in OTHER_NAMES:
            for path in ("/events", "/health", "/nowhere"):
                refused = await gateway.client.get(path, headers={"Host": host})
                assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), (host, path)
                assert "API_KEY of your own" in refused.json()["detail"]


async def test_with_a_key_of_ones_own_the_api_may_have_any_name(start_gateway: StartGateway) -> None:
    async with start_gateway(api_key="own", env="prod") as gateway:
        answer = await gateway.client.get("/events", headers={"Host": "crew.example", "X-API-Key": "own"})
        assert answer.status_code == 200


@pytest.mark.parametrize("rbac", [True, False])
async def test_the_matrix_of_roles(start_gateway: StartGateway, start_owner: StartOwner, rbac: bool) -> None:
    answers: dict[Any, Any] = {
        planner.ListTasks: lambda _: Page(items=[], total=0),
        planner.CreateTask: lambda r: planner.TaskCreated(task=a_task(title=r.title)),
    }
    async with start_owner("planner", answers), start_gateway(feature_rbac=rbac) as gateway:
        for role, reads, writes, repairs in (
            (None, 200, 201, 200),
            ("viewer", 200, 403 if rbac else 201, 403),
            ("editor", 200, 201, 403),
            ("Admin", 200, 201, 200),
            ("root", 400, 400, 400),
        ):
            headers = {"X-Role": role} if role else {}
            read = await gateway.client.get("/tasks", headers=headers)
            write = await gateway.client.post("/tasks", json={"title": "t"}, headers=headers)
            repair = await gateway.client.get("/admin/dead-letters/planner", headers=headers)
            statuses = (read.status_code, write.status_code, repair.status_code)
            assert statuses == (reads, writes, repairs), role


async def test_without_required_keys_local_calls_get_through_and_roles_still_lower(
    start_gateway: StartGateway,
) -> None:
    async with (
        start_gateway(require_api_key=False, feature_rbac=True) as gateway,
        httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger,
    ):
        assert (await stranger.get("/events")).status_code == 200
        refused = await stranger.post("/tasks", json={"title": "t"}, headers={"X-Role": "viewer"})
        assert refused.status_code == 403


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"require_api_key": False, "env": "prod"}, "ENV=dev"),
        ({"require_api_key": False, "host": "0.0.0.0"}, "loopback"),
        ({"host": "0.0.0.0"}, "API_KEY"),
        ({"host": "::"}, "API_KEY"),
        ({"api_key": "schlüssel"}, "ASCII"),
        ({"api_key": ""}, "API_KEY is blank"),
        ({"api_key": "", "host": "0.0.0.0"}, "API_KEY is blank"),
        ({"api_key": " own"}, "begin or end with a space"),
        ({"env": "prod"}, "API_KEY is the default one while ENV=prod"),
        ({"allowed_origins": "*"}, "ALLOWED_ORIGINS"),
    ],
)
def test_settings_that_would_leave_the_door_open_are_refused_in_one_line(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(BadSettings, match=says) as refused:
        create_app(GatewaySettings(nats_url="nats://x", database_url="postgresql://x", **settings))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"host": "::1"},
        {"host": "localhost"},
        {"host": "0.0.0.0", "api_key": "own"},
        {"env": "prod", "api_key": "own"},
    ],
)
def test_safe_settings_are_taken(settings: dict[str, Any]) -> None:
    create_app(GatewaySettings(nats_url="nats://x", database_url="postgresql://x", **settings))
