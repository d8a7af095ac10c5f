"""One trace from the HTTP request through NATS to SQL, and on with the facts that it caused."""

from __future__ import annotations

import json
from uuid import uuid4

from chassis.testing.eventually import eventually
from chassis.testing.outbox_table import headers_in
from tests.system.api import Api
from tests.system.collector import Collector, Span
from tests.system.ledger import Plan
from tests.system.world import World

TOLD = "select head from {owner}.outbox where story = $1 order by id"


async def test_one_trace_from_http_through_nats_to_sql_and_back_with_the_facts(
    world: World, api: Api, collector: Collector
) -> None:
    trace, client = uuid4().hex, uuid4().hex[:16]
    body = {"title": "Traced", "task": Plan().node("a").nodes}
    accepted = await api.post("/tasks", body, expect=202, traceparent=f"00-{trace}-{client}-01")
    run = await api.ended(accepted["run_id"])

    def followed() -> list[Span]:
        found = collector.spans(trace)
        known = {client} | {s.id for s in found}
        last = any((s.service, s.name) == ("planner", "planner-runs executor.run.completed") for s in found)
        return found if last and all(s.parent in known for s in found) else []

    spans = await eventually(followed, what="the whole trace, down to the run's last fact")
    by_id = {span.id: span for span in spans}

    def path(span: Span) -> list[str]:
        """Services and names from the client's request down to this span."""
        above = path(by_id[span.parent]) if span.parent in by_id else [span.parent]
        return [*above, f"{span.service} {span.name}"]

    (handled,) = [s for s in spans if s.service == "executor" and s.name == "rpc.executor.run.start"]
    assert path(handled)[0] == client, "the trace is the client's"
    assert [step for step in path(handled)[1:] if "rpc." in step or "POST" in step] == [
        "gateway POST /tasks",
        "gateway rpc.planner.task.launch",
        "planner rpc.planner.task.launch",
        "planner rpc.executor.run.start",
        "executor rpc.executor.run.start",
    ]
    statements = {s.service for s in spans if s.attributes.get("db.system") == "postgresql"}
    assert {"planner", "executor"} <= statements
    secrets = json.dumps([s.attributes for s in spans])
    assert "test-key" not in secrets

    for owner, story in (("planner", run["task_id"]), ("executor", run["id"])):
        rows = await world.rows(TOLD.format(owner=owner), story)
        carried = {headers_in(row["head"])["traceparent"].split("-")[1] for row in rows}
        assert carried == {trace}, f"the {owner}'s outbox replays the trace with every fact"


async def test_a_request_id_is_echoed_and_found_on_its_events_and_in_the_logs(world: World, api: Api) -> None:
    request_id = f"look-for-me-{uuid4()}"
    response = await api.http.post(
        "/tasks", json={"title": "Found again", "task": Plan().node("a").nodes}, headers={"X-Request-ID": request_id}
    )
    assert response.headers["X-Request-ID"] == request_id
    run_id = response.json()["run_id"]
    run = await api.ended(run_id)
    assert run["request_id"] == request_id
    told = await api.told_all(run_id)
    assert {e["request_id"] for e in told} == {request_id}
    found = await api.get("/events", request_id=request_id, limit=200)
    assert {e["id"] for e in told} <= {e["id"] for e in found["items"]}
    assert request_id in world.log("gateway")
