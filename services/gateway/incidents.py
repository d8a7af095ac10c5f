"""The incident of a run: the nodes in trouble with what happened to them, gathered from the timeline and both owners."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import structlog

from chassis.postgres import CONNECTION_LOST
from contracts.executor import GetRun, Node, RunDetail
from contracts.run_control import ExplainWaiting
from services.gateway.asking import Desk
from services.gateway.delivered import ARTIFACTS, ByNode, artifacts_by_node
from services.gateway.domain.times import shown_in
from services.gateway.domain.trouble import Signal, in_trouble, signals
from services.gateway.judging import Said, degraded, said_of
from services.gateway.news import event_of
from services.gateway.review_schemas import Incident, TroubledNode
from services.gateway.running import latest_events, node_out
from services.gateway.schemas import Event
from services.gateway.store import Feed

log = structlog.get_logger(__name__)

RECENT = 50
OF_A_NODE = 20


@dataclass(frozen=True, slots=True)
class Timeline:
    """What the timeline says of a run: its newest events, those of its troubled nodes, how often each level was told."""

    recent: list[Event]
    of_nodes: list[Event]
    counts: dict[str, int]


async def incident_of(desk: Desk, feed: Feed, run_id: UUID) -> Incident:
    detail = await desk.ask(GetRun(run_id=run_id))
    nodes = detail.nodes or []
    troubled = in_trouble(nodes)
    told, said, artifacts = await asyncio.gather(
        _told(desk, feed, detail, troubled),
        said_of(desk, run_id=run_id),
        artifacts_by_node(desk, [node.id for node in troubled]),
    )
    return Incident(
        run=detail.run,
        summary=detail.summary,
        failed_nodes=[_troubled(node, told, said, artifacts) for node in troubled],
        recent_events=told.recent if told else None,
        signals=await _signals(desk, detail, nodes, told),
        degraded=(["events"] if told is None else []) + degraded(said) + ([ARTIFACTS] if artifacts is None else []),
    )


async def _told(desk: Desk, feed: Feed, detail: RunDetail, troubled: Sequence[Node]) -> Timeline | None:
    """None while the timeline's database is away."""
    company, run_id = desk.company, detail.run.id
    try:
        recent = await latest_events(feed, company, detail, RECENT)
        head = await feed.head(company)
        of_nodes = await feed.latest_of_nodes(company, run_id, [node.id for node in troubled], each=OF_A_NODE)
        counts = await feed.counts_of_run(company, run_id)
    except CONNECTION_LOST as error:
        log.warning("incident.events_missing", error=repr(error))
        return None
    events = [event_of(each, head.epoch) for each in of_nodes]
    return Timeline(shown_in(recent, desk.zone), shown_in(events, desk.zone), counts)


def _troubled(node: Node, told: Timeline | None, said: Said | None, artifacts: ByNode | None) -> TroubledNode:
    events = [event for event in told.of_nodes if event.node_id == node.id] if told else None
    delivered = None if artifacts is None else artifacts.get(node.id, [])
    return TroubledNode(**dict(node_out(node, said)), events=events, artifacts=delivered)


async def _signals(desk: Desk, detail: RunDetail, nodes: Sequence[Node], told: Timeline | None) -> list[Signal]:
    waiting = await desk.ask(ExplainWaiting(run_id=detail.run.id))
    return signals(detail.run, nodes, waiting.items, told.counts if told else {})
