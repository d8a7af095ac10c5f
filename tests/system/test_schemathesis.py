"""Everything the OpenAPI document allows and much that it forbids: no 5xx, no status, type or body that it does not name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from uuid import uuid4
from zlib import crc32

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.system.defaults import API_KEY

CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
HEADERS = {"X-API-Key": API_KEY}
OPTIONAL_HEADERS = {"X-Timezone", "X-Role", "X-Request-ID", "X-Actor", "Idempotency-Key"}
NO_HTTP = "Invalid HTTP request received."  # what uvicorn says to header bytes that no application ever sees
ENDLESS = "/stream|/tokens"
#: the same handlers as without the prefix, which is tested on its own
TWICE = (
    r"^/companies/\{company\}/(tasks|plans|runs|nodes|events|budgets|feedbacks|feedback-policies|reviews|quality|artifacts"
    r"|previews|shares|deliverables|knowledge)"
)
THOROUGH = settings(
    max_examples=int(os.environ.get("SCHEMATHESIS_EXAMPLES", "8")),
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture
def known(stack_url: str) -> Iterator[dict[str, Any]]:
    """Ids of things that exist: with random ones alone, little more than 404 would be seen."""
    with httpx.Client(base_url=stack_url, headers=HEADERS, timeout=60) as client:
        title = f"schemathesis {uuid4()}"
        task = client.post("/tasks", json={"title": title}).raise_for_status().json()["id"]
        graph = [{"id": "a", "title": "x", "kind": "noop"}, {"id": "b", "title": "y", "kind": "noop", "deps": ["a"]}]
        plan = client.post("/plans", json={"task_id": task, "graph": graph}).raise_for_status().json()["plan_id"]
        run = client.post("/tasks", json={"title": title, "task": graph}).raise_for_status().json()["run_id"]
        node = client.get(f"/runs/{run}/nodes").raise_for_status().json()["items"][0]["id"]
        other = client.post("/tasks", json={"title": f"{title} too"}).raise_for_status().json()["id"]
        here, text, archive = f"/tasks/{task}", {"file": ("a.md", b"# Tides")}, {"file": ("site.zip", b"no ZIP")}
        artifact = client.post(f"{here}/artifacts", files=text).raise_for_status().json()["id"]
        shared = client.post(f"{here}/artifacts?name=b.md", files=text).raise_for_status().json()["id"]
        share = client.post(f"/artifacts/{shared}/shares").raise_for_status().json()["id"]
        preview = client.post(f"{here}/previews/publish", files=archive).raise_for_status().json()["id"]
        space = client.post("/knowledge/spaces", json={"name": title}).raise_for_status().json()["id"]
        known = {"space_id": space, "title": "Tides", "text": "Two high waters a day."}
        document = client.post("/knowledge/documents", json=known).raise_for_status().json()["id"]
        yield {
            "space_id": space,
            "document_id": document,
            "artifact_id": artifact,
            "preview_id": preview,
            "share_id": share,
            "task_id": task,
            "other_id": other,
            "plan_id": plan,
            "version": 1,
            "run_id": run,
            "node_id": node,
            "owner": "planner",
            "company": "default",
            "project": "default",
            "scope": "agent",
            "scope_id": "nobody",  # a budget of somebody else would stop the others on this stack
        }


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_does_what_its_document_says(stack_url: str, known: dict[str, Any], mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{stack_url}/openapi.json").exclude(path_regex=f"{ENDLESS}|{TWICE}")
    failures: list[str] = []
    operations = [result.ok() for result in document.get_all_operations()]
    for operation in sorted(
        operations, key=lambda o: o.method.upper() == "DELETE"
    ):  # it would leave nothing to look at
        try:
            _exercise(operation, known, mode)
        except Exception as error:  # each operation is told apart
            failures.append(f"{operation.label}\n{error}")
    assert not failures, "\n\n".join(failures)


def _exercise(operation: Any, known: dict[str, Any], mode: GenerationMode) -> None:
    @THOROUGH
    @given(operation.as_strategy(generation_mode=mode))
    def run(case: Case) -> None:
        dice = crc32(f"{case.body}{case.query}{case.path_parameters}".encode("utf-8", "replace"))
        if dice % 4:
            _lead_to_what_exists(case, known)
        response = case.call(headers=HEADERS, timeout=70)
        if response.text != NO_HTTP:
            case.validate_response(response, checks=CHECKS)

    run()


def _lead_to_what_exists(case: Case, known: dict[str, Any]) -> None:
    """Random ids and random zones are refused before anything interesting happens."""
    for name in known.keys() & (case.path_parameters or {}).keys():
        case.path_parameters[name] = known[name]
    for name in ("task_id", "space_id"):
        if isinstance(case.body, dict) and name in case.body:
            case.body[name] = known[name]
    for name in OPTIONAL_HEADERS & set(case.headers or {}):
        del case.headers[name]
