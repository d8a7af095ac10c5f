"""Refusals that no owner is asked about: each has its own code, and says what would be right."""

from __future__ import annotations

from uuid import uuid4

import httpx
import pytest
from pydantic import ValidationError

from contracts.errors import Code
from contracts.executor import ControlRun, RunAction
from services.gateway.problems import CODE_OF_STATUS, STATUS, of_exception
from tests.gateway.builders import a_run
from tests.gateway.conftest import Gateway


def test_every_code_has_a_status_and_the_frameworks_statuses_have_codes_that_lead_back() -> None:
    assert set(STATUS) == set(Code)
    assert {STATUS[code]: code for code in CODE_OF_STATUS.values()} == CODE_OF_STATUS


def test_what_no_owner_could_be_asked_is_the_clients_mistake_and_what_we_could_not_say_is_ours() -> None:
    with pytest.raises(ValidationError) as asked:
        ControlRun(command_id=uuid4(), run_id=uuid4(), action=RunAction.PAUSE, by="x" * 10_000)
    answer = of_exception("r", asked.value)
    assert answer is not None
    assert answer.status_code == 422
    assert b'"loc":["by"]' in answer.body
    with pytest.raises(ValidationError) as told:
        a_run(status="unheard")
    assert of_exception("r", told.value) is None


async def test_a_method_the_path_does_not_have_is_told_those_it_has(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("DELETE", "/tasks", "GET, POST"),
        ("PUT", f"/tasks/{uuid4()}", "GET, PATCH, DELETE"),
        ("POST", f"/runs/{uuid4()}/nodes", "GET"),
        ("GET", f"/plans/{uuid4()}/auto_assign", "POST"),
        ("PROPFIND", "/health", "GET"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("PATCH", "/docs", "GET"),
    ):
        response = await client.request(method, path)
        body = response.json()
        assert (response.status_code, body["code"]) == (405, "method_not_allowed"), path
        assert response.headers["Allow"] == allowed
        assert response.headers["content-type"] == "application/problem+json"
        assert body["detail"] == f"{method} is not possible here; this path has {allowed}"
        assert body["details"] == {"allowed": allowed.split(", ")}


async def test_what_is_wrong_with_the_message_itself_has_a_code_of_its_own(gateway: Gateway) -> None:
    text = {"Content-Type": "text/plain"}
    json = {"Content-Type": "application/json"}
    for content, headers, status, code in (
        (b"title=t", text, 415, "unsupported_media_type"),
        (b" " * (gateway.app.settings.body_limit + 1), json, 413, "too_large"),
        (b"{", json, 422, "invalid"),
    ):
        response = await gateway.client.post("/tasks", content=content, headers=headers)
        body = response.json()
        assert (response.status_code, body["code"]) == (status, code)
        assert body["type"] == f"urn:fluidcrew:problem:{code}"
    missing = await gateway.client.get("/nowhere")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
