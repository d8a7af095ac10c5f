"""Runs and nodes over HTTP: the predecessor's fields, the graph, what is missing said honestly."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts import executor
from contracts.errors import Code, Rejection
from contracts.feedback import ListFeedbacks
from contracts.page import Page
from contracts.run_facts import RunStarted
from tests.gateway.builders import NOTHING_DELIVERED, a_node, a_node_detail, a_run, a_run_detail
from tests.gateway.conftest import Gateway, StartGateway, StartOwner
from tests.gateway.proxy import proxied

RUN, FIRST, SECOND = uuid4(), uuid4(), uuid4()
NOTHING_SAID: dict[type[Any], Any] = {ListFeedbacks: lambda _: Page(items=[], total=0)}


def answers() -> dict[type[Any], Any]:
    nodes = [
        a_node(id=FIRST, run_id=RUN, key="a"),
        a_node(id=SECOND, run_id=RUN, key="b", deps=["a"], status="running"),
    ]

    def node(request: executor.GetNode) -> executor.NodeDetail:
        if request.node_id not in (FIRST, SECOND):
            raise Rejection(Code.NOT_FOUND, "there is no such node")
        return a_node_detail(id=request.node_id, output="inline")

    return {
        executor.ListRuns: lambda _: Page(items=[a_run(id=RUN)], total=1),
        executor.GetRun: lambda r: a_run_detail(a_run(id=r.run_id), nodes if r.include_nodes else None),
        executor.ControlRun: lambda r: executor.RunControlled(
            status="paused", actual="running", wanted="pause", skipped_nodes=[]
        ),
        executor.ListNodes: lambda _: Page(items=nodes, total=2),
        executor.GetNode: node,
        executor.DescribeLlm: lambda _: executor.LlmConfig(
            default_provider="demo",
            default_model="demo-1",
            providers=[
                executor.ProviderInfo(name="demo", configured=True, default=True, base_url=None, models=["demo-1"])
            ],
        ),
    }


async def test_a_run_has_the_predecessors_fields_and_its_graph(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("executor", answers()) as owner,
        start_owner("feedback", NOTHING_SAID),
        start_owner("publisher", NOTHING_DELIVERED),
        start_gateway() as gateway,
    ):
        await owner.tell(RunStarted(run_id=RUN, title="1"), RunStarted(run_id=RUN, title="2"))
        await eventually(lambda: gateway.parts.feed.count_of_run("default", RUN))
        run = (await gateway.client.get(f"/runs/{RUN}?include_events=1")).json()
        binding = {"id", "title", "status", "started_at", "ended_at", "meta", "summary", "dag", "events", "artifacts"}
        assert binding <= set(run)
        assert [node["id"] for node in run["dag"]["nodes"]] == [str(FIRST), str(SECOND)]
        assert run["dag"]["edges"] == [{"source": str(FIRST), "target": str(SECOND)}]
        assert (len(run["events"]), run["artifacts"], run["degraded"]) == (1, [], [])
        assert '"2"' in run["events"][0]["message"], "the newest"
        bare = (await gateway.client.get(f"/runs/{RUN}?include_nodes=false")).json()
        assert (bare["dag"], bare["events"]) == ({"nodes": [], "edges": []}, [])
        summary = (await gateway.client.get(f"/runs/{RUN}/summary")).json()
        assert summary == bare["summary"]
        assert (summary["events_total"], summary["artifacts_total"], summary["llm_total_tokens"]) == (2, 0, 15)


async def test_without_its_timeline_a_run_is_shown_with_the_missing_part_named(
    start_gateway: StartGateway, start_owner: StartOwner, database: Database
) -> None:
    async with (
        start_owner("executor", answers()),
        start_owner("feedback", NOTHING_SAID),
        start_owner("publisher", NOTHING_DELIVERED),
        proxied(database.url_for("gateway")) as proxy,
        start_gateway(database_url=proxy.url) as gateway,
    ):
        proxy.take_away()
        run = await gateway.client.get(f"/runs/{RUN}?include_events=5")
        assert run.status_code == 200
        assert (run.json()["events"], run.json()["degraded"]) == (None, ["events"])
        assert run.json()["summary"]["events_total"] is None
        events = await gateway.client.get("/events")
        assert (events.status_code, "Retry-After" in events.headers) == (503, True)
        assert (await gateway.client.get("/health")).json()["db_ok"] is False
        proxy.cut = False
        await eventually(lambda: _is_well(gateway))


async def _is_well(gateway: Gateway) -> bool:
    return (await gateway.client.get("/events")).status_code == 200


async def test_runs_are_listed_by_what_they_are(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("executor", answers()) as owner, start_gateway() as gateway:
        url = "/runs?status=running&title_contains=a&started_from=2026-01-01T00:00:00&started_to=2026-01-31T00:00:00Z"
        page = (await gateway.client.get(f"{url}&order_dir=desc")).json()
        assert {"id", "title", "status", "started_at", "ended_at"} <= set(page["items"][0])
        asked, _ = owner.asked[0]
        assert (asked.status, asked.title_contains, asked.order_by) == ("running", "a", "-created_at")
        assert asked.started_from.isoformat() == "2026-01-01T00:00:00+00:00"


async def test_what_was_asked_for_is_told_apart_from_what_is(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", answers()) as owner, start_gateway() as gateway:
        for action in ("pause", "resume", "cancel", "skip_failed_and_resume"):
            controlled = await gateway.client.patch(f"/runs/{RUN}", json={"action": action})
            assert controlled.status_code == 200
            assert {"status", "actual", "wanted", "skipped_nodes"} <= set(controlled.json())
            assert owner.asked[-1][0].action == action


async def test_nodes_come_with_feedbacks_and_artifacts_that_are_honestly_empty(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("executor", answers()),
        start_owner("feedback", NOTHING_SAID),
        start_owner("publisher", NOTHING_DELIVERED),
        start_gateway() as gateway,
    ):
        nodes = (await gateway.client.get(f"/runs/{RUN}/nodes?status=completed&key=a")).json()
        binding = {"id", "run_id", "key", "title", "status", "role", "checksum", "deps", "created_at", "updated_at"}
        assert binding <= set(nodes["items"][0])
        assert nodes["items"][0]["feedbacks"] == []
        artifacts = (await gateway.client.get(f"/nodes/{FIRST}/artifacts")).json()
        assert (artifacts["items"], artifacts["total"]) == ([], 0)
        assert (await gateway.client.get(f"/nodes/{uuid4()}/artifacts")).status_code == 404
        assert (await gateway.client.get("/config/llm")).json()["default_provider"] == "demo"


@pytest.mark.usefixtures("object_store")
async def test_a_large_output_is_fetched_from_the_object_store(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    node_id = UUID(int=1)
    said = answers()
    async with start_gateway() as gateway:
        ref = await gateway.parts.blobs.put("ü".encode() * 50_000, company="default", content_type="text/plain")
        said[executor.GetNode] = lambda r: a_node_detail(id=r.node_id, output_ref=ref)
        async with start_owner("executor", said):
            node = (await gateway.client.get(f"/nodes/{node_id}")).json()
            assert node["output"] == "ü" * 50_000
