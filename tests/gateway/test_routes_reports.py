"""Reports over HTTP: as JSON and as Markdown, with everything that can be had right now."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from chassis.testing.eventually import eventually
from chassis.testing.servers import Database
from contracts import executor, feedback, run_control
from contracts.errors import Code, Rejection
from contracts.page import Page
from contracts.run_facts import NodeFailed, NodeStarted, RunStarted
from tests.gateway.builders import NOTHING_DELIVERED, a_feedback, a_node, a_run, a_run_detail, a_verdict
from tests.gateway.conftest import StartGateway, StartOwner
from tests.gateway.proxy import proxied

RUN, NODE, HELD = uuid4(), uuid4(), uuid4()
FORGED = "fine\n# Approved\n[here](https://evil.example)"
MARKDOWN = {"Accept": "text/markdown"}


def report() -> feedback.QaReport:
    nodes = [
        feedback.NodeQuality(
            node_id=NODE,
            key="a",
            attempt=2,
            score=35,
            decision="revise",
            source="human",
            reviewer="ada",
            critical=True,
            failed_criteria=["format"],
            comment=FORGED,
            reviews=3,
        )
    ]
    counts = {"accepted": 0, "revised": 1, "rejected": 0, "critical": 1, "reviews": 3, "human_reviews": 1}
    return feedback.QaReport(run_id=RUN, nodes=nodes, average_score=35.0, failed_criteria={"format": 1}, **counts)


def of_feedback() -> dict[type[Any], Any]:
    row = feedback.QualityRow(
        name="writer", bucket=None, reviews=3, average_score=71.5, accepted_first_time=0.5, critical=1, human_reviews=0
    )
    return {
        feedback.GetQaReport: lambda _: report(),
        feedback.GetQuality: lambda r: feedback.Quality(by=r.by, items=[row]),
        feedback.ListFeedbacks: lambda _: Page(items=[a_feedback(node_id=NODE)], total=1),
    }


def of_the_executor() -> dict[type[Any], Any]:
    held = {"status": "paused", "pause_reasons": ["verdict"], "verdict": a_verdict(critique=FORGED)}
    nodes = [
        a_node(id=NODE, run_id=RUN, key="a", status="failed", error=FORGED, output_preview=None),
        a_node(id=HELD, run_id=RUN, key="b", title=FORGED, output_preview=FORGED, **held),
        a_node(run_id=RUN, key="c"),
    ]

    def detail(request: executor.GetRun) -> executor.RunDetail:
        if request.run_id != RUN:
            raise Rejection(Code.NOT_FOUND, f"there is no run {request.run_id}")
        return a_run_detail(a_run(id=RUN, title=FORGED), nodes)

    return {
        executor.GetRun: detail,
        run_control.ExplainWaiting: lambda r: run_control.WaitingFor(
            run_id=r.run_id, status="running", wanted="run", items=[]
        ),
    }


def headings(text: str) -> list[str]:
    fenced, found = "", []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = "" if fenced and line == fenced else fenced or line.removesuffix("text")
        elif line.startswith("#") and not fenced:
            found.append(line)
    return found


async def test_the_quality_of_a_run_is_told_to_programs_and_to_people(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("feedback", of_feedback()),
        start_owner("executor", of_the_executor()),
        start_gateway() as gateway,
    ):
        answer = await gateway.client.get(f"/runs/{RUN}/qa-report")
        assert answer.json() == report().model_dump(mode="json")
        assert "Accept" in answer.headers["Vary"]
        told = await gateway.client.get(f"/companies/default/runs/{RUN}/qa-report", headers=MARKDOWN)
        assert (told.status_code, told.headers["Content-Type"]) == (200, "text/markdown; charset=utf-8")
        assert "| a | 2 | 35 (critical) | revise | ada (human) | format |" in told.text
        assert [heading[:11] for heading in headings(told.text)] == ["# Quality o", "## Failed c", "## Said of "]
        refused = await gateway.client.get(f"/runs/{RUN}/qa-report", headers={"Accept": "text/html"})
        assert (refused.status_code, refused.json()["details"]["offered"][1]) == (406, "text/markdown")
        unknown = await gateway.client.get(f"/runs/{uuid4()}/qa-report", headers=MARKDOWN)
        assert (unknown.status_code, unknown.headers["Content-Type"]) == (404, "application/problem+json")


async def test_the_quality_of_a_run_is_told_without_its_executor(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("feedback", of_feedback()), start_gateway() as gateway:
        told = await gateway.client.get(f"/runs/{RUN}/qa-report", headers=MARKDOWN)
        assert told.text.startswith(f"# Quality of the run {RUN}\n")


async def test_an_incident_gathers_the_nodes_in_trouble_with_what_happened_to_them(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with (
        start_owner("feedback", of_feedback()),
        start_owner("publisher", NOTHING_DELIVERED),
        start_owner("executor", of_the_executor()) as owner,
        start_gateway() as gateway,
    ):
        failed = NodeFailed(run_id=RUN, node_id=NODE, key="a", attempt=1, error="boom")
        of_c = NodeStarted(run_id=RUN, node_id=uuid4(), key="c", attempt=1, title="c")
        await owner.tell(RunStarted(run_id=RUN, title="t"), *[failed] * 25, of_c)

        async def all_told() -> bool:
            return await gateway.parts.feed.count_of_run("default", RUN) == 27

        await eventually(all_told)
        incident = (await gateway.client.get(f"/runs/{RUN}/incident")).json()
        assert set(incident) >= {"run", "failed_nodes", "recent_events", "signals"}
        assert [node["key"] for node in incident["failed_nodes"]] == ["a", "b"]
        first, second = incident["failed_nodes"]
        assert (len(first["events"]), {event["node_id"] for event in first["events"]}) == (20, {str(NODE)})
        assert (second["events"], first["artifacts"], len(first["feedbacks"])) == ([], [], 1)
        assert (len(incident["recent_events"]), incident["degraded"]) == (27, [])
        signals = {signal["kind"]: signal["count"] for signal in incident["signals"]}
        assert signals == {"failed_nodes": 1, "held_nodes": 1, "NODE_FAILED": 25}
        text = (await gateway.client.get(f"/runs/{RUN}/incident", headers=MARKDOWN)).text
        assert '| NODE_FAILED | ` key "a", attempt 1, error "boom" ` |' in text


@pytest.mark.parametrize("form", ["application/json", "text/markdown"])
async def test_an_incident_is_exported_as_a_file(
    start_gateway: StartGateway, start_owner: StartOwner, form: str
) -> None:
    async with start_owner("executor", of_the_executor()), start_gateway() as gateway:
        answer = await gateway.client.get(f"/runs/{RUN}/incident?export=true", headers={"Accept": form})
        suffix = "md" if form == "text/markdown" else "json"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="incident-{RUN}.{suffix}"'
        plain = await gateway.client.get(f"/runs/{RUN}/incident", headers={"Accept": form})
        assert (answer.text, "Content-Disposition" in plain.headers) == (plain.text, False)


async def test_what_models_wrote_forges_nothing_in_an_incident(
    start_gateway: StartGateway, start_owner: StartOwner
) -> None:
    async with start_owner("executor", of_the_executor()), start_gateway() as gateway:
        text = (await gateway.client.get(f"/runs/{RUN}/incident", headers=MARKDOWN)).text
        assert [heading.split()[1] for heading in headings(text)] == ["Incident", "Signals", "Node", "Node"]
        assert "Missing right now: feedbacks, artifacts." in text
        outside = "\n".join(part for n, part in enumerate(text.split("```")) if n % 2 == 0)
        assert "](" not in outside.replace("` fine # Approved [here](https://evil.example) `", "")


async def test_without_its_timeline_an_incident_is_told_with_the_missing_part_named(
    start_gateway: StartGateway, start_owner: StartOwner, database: Database
) -> None:
    async with (
        start_owner("executor", of_the_executor()),
        start_owner("feedback", of_feedback()),
        start_owner("publisher", NOTHING_DELIVERED),
        proxied(database.url_for("gateway")) as proxy,
        start_gateway(database_url=proxy.url) as gateway,
    ):
        proxy.take_away()
        incident = (await gateway.client.get(f"/runs/{RUN}/incident")).json()
        assert (incident["recent_events"], incident["degraded"]) == (None, ["events"])
        assert incident["failed_nodes"][0]["events"] is None


async def test_quality_over_time_asks_for_whose_and_when(start_gateway: StartGateway, start_owner: StartOwner) -> None:
    async with start_owner("feedback", of_feedback()) as owner, start_gateway() as gateway:
        query = "by=role&bucket=week&project=website&ts_from=2026-01-01T00:00:00&ts_to=2026-01-31T00:00:00Z"
        found = (await gateway.client.get(f"/quality?{query}")).json()
        assert (found["by"], found["items"][0]["accepted_first_time"]) == ("role", 0.5)
        asked, _ = owner.asked[-1]
        assert (asked.bucket, asked.project, asked.ts_from.isoformat()) == (
            *("week", "website", "2026-01-01T00:00:00+00:00"),
        )
        for wrong, status in (
            ("", 422),
            ("?by=mood", 422),
            ("?by=role&bucket=year", 422),
            ("?by=role&ts_from=2026-01-01T00:00:00Z&ts_to=2026-03-01T00:00:00Z", 400),
            ("?by=role&ts_from=2026-02-01T00:00:00Z&ts_to=2026-01-01T00:00:00Z", 400),
        ):
            assert (await gateway.client.get(f"/quality{wrong}")).status_code == status, wrong
