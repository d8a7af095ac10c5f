"""A run as the API shows it: the executor's answer, with what the timeline knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import structlog

from chassis.postgres import CONNECTION_LOST
from contracts.executor import Node, RunDetail, RunSummary
from services.gateway.artifact_schemas import ArtifactOut
from services.gateway.delivered import ARTIFACTS
from services.gateway.domain.times import shown_in
from services.gateway.judging import Said, degraded, of_node
from services.gateway.news import event_of
from services.gateway.schemas import Dag, Event, NodeOut, RunEdge, RunOut, RunSummaryOut
from services.gateway.store import Feed

log = structlog.get_logger(__name__)


def node_out(node: Node, said: Said | None) -> NodeOut:
    return NodeOut(**dict(node), feedbacks=of_node(said, node.id))


def dag_of(nodes: Sequence[Node], said: Said | None) -> Dag:
    ids = {node.key: node.id for node in nodes}
    edges = [RunEdge(source=ids[dep], target=node.id) for node in nodes for dep in node.deps if dep in ids]
    return Dag(nodes=[node_out(node, said) for node in nodes], edges=edges)


@dataclass(frozen=True, slots=True)
class Shown:
    """What others know of a run; None where they could not be asked."""

    said: Said | None
    artifacts: list[ArtifactOut] | None
    artifacts_total: int | None

    @property
    def degraded(self) -> list[str]:
        nothing_delivered = self.artifacts is None or self.artifacts_total is None
        return degraded(self.said) + ([ARTIFACTS] if nothing_delivered else [])


def summary_out(summary: RunSummary, events_total: int | None, artifacts_total: int | None) -> RunSummaryOut:
    counts = {"events_total": events_total, "artifacts_total": artifacts_total}
    missing = [name for name, count in counts.items() if count is None]
    return RunSummaryOut(**dict(summary), **counts, degraded=missing)


async def run_out(
    feed: Feed, company: str, detail: RunDetail, known: Shown, *, events: int, zone: ZoneInfo | None
) -> RunOut:
    """Without the timeline a run can still be shown: its events are null then, and named in `degraded`."""
    total: int | None = None
    shown: list[Event] | None = None
    try:
        total = await feed.count_of_run(company, detail.run.id)
        shown = shown_in(await latest_events(feed, company, detail, events), zone)
    except CONNECTION_LOST as error:
        log.warning("running.events_missing", error=repr(error))
    return RunOut(
        **dict(detail.run),
        summary=summary_out(detail.summary, total, known.artifacts_total),
        dag=dag_of(detail.nodes or [], known.said),
        events=shown,
        artifacts=known.artifacts,
        degraded=(["events"] if shown is None else []) + known.degraded,
    )


async def latest_events(feed: Feed, company: str, detail: RunDetail, count: int) -> list[Event]:
    if not count:
        return []
    head = await feed.head(company)
    return [event_of(told, head.epoch) for told in await feed.latest(company, detail.run.id, count)]
