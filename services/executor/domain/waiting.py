"""Why does something not move, and what will release it? Said of one moment, for people to read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack

from contracts.executor import NodeStatus, RunStatus
from contracts.run_control import Waiting, WaitingFor, WaitReason
from contracts.verdict import Effect, Source, Verdict
from services.executor.domain.budget import BUDGET
from services.executor.domain.run import VERDICT
from services.executor.domain.run_moves import CONTROL
from services.executor.domain.scene import DeadOrder, Order, Scene, SceneNode, Weather, Worker
from services.executor.domain.status import NODE_DONE, NODE_FINAL, RUN_FINAL
from services.executor.domain.upstream import broken_before, held_before

SHOWN_KEYS = 5
SHOWN_WORDS = 300  # characters


def explained(scene: Scene) -> WaitingFor:
    items: list[Waiting] = []
    over = scene.status in RUN_FINAL
    if not over or scene.orders:
        items += _of_the_run(scene)
    if not over:
        items += [_set_aside(scene, dead) for dead in scene.dead]
        items += _of_the_nodes(scene)
    elif scene.status is not RunStatus.CANCELED:
        items += [_rejected(node) for node in scene.nodes if _needs_a_person(node)]
    return WaitingFor(run_id=scene.run_id, status=scene.status, wanted=scene.wanted, items=items)


def _of_the_run(scene: Scene) -> Iterator[Waiting]:
    """What holds the run as a whole; nothing when only its nodes wait."""
    orders = [order for order in scene.orders if order.key is None]
    if orders:
        yield _ordered(scene, "run", str(scene.status), orders[0])
    elif _is_over(scene.owner, scene.now):
        yield _run(
            scene, WaitReason.EXECUTOR, f"{_worker(scene)} stopped answering", "another executor takes the run over"
        )
    elif scene.owner is None and scene.status is RunStatus.QUEUED:
        release = "the next executor with a free slot"
        yield _run(scene, WaitReason.EXECUTOR, "no executor has taken the run yet", release)
    elif scene.pause_reasons:
        yield _paused_run(scene)
    elif scene.owner is None and scene.wake_at is not None:
        at = "now" if scene.wake_at <= scene.now else f"at {_clock(scene.wake_at)}"
        detail = f"nothing could happen for a while: no executor holds the run, and one looks at it again {at}"
        yield _run(scene, WaitReason.EXECUTOR, detail, "an executor takes it then", until=scene.wake_at)


def _paused_run(scene: Scene) -> Waiting:
    finishing = [node.key for node in scene.nodes if node.status is NodeStatus.RUNNING]
    who = f"by {scene.asked_by} " if scene.asked_by else ""
    when = f"at {_clock(scene.asked_at)} " if scene.asked_at else ""
    state = f"; {_nodes(len(finishing), 'finishes', 'finish')} first" if finishing else ""
    detail = f"a pause was asked for {who}{when}".strip() + state
    return _run(scene, WaitReason.PAUSED, detail, "resume of the run", by=scene.asked_by, on=finishing)


def _of_the_nodes(scene: Scene) -> Iterator[Waiting]:
    by_key = {node.key: node for node in scene.nodes}
    orders = {order.key: order for order in reversed(scene.orders) if order.key is not None}
    for node in scene.nodes:
        if node.status in NODE_FINAL:
            if _needs_a_person(node):
                yield _rejected(node)
            continue
        if (order := orders.get(node.key)) is not None:
            yield _ordered(scene, "node", str(node.status), order, node)
        else:
            yield _of_a_node(scene, node, by_key)


def _of_a_node(scene: Scene, node: SceneNode, by_key: Mapping[str, SceneNode]) -> Waiting:
    if node.status is NodeStatus.RUNNING:
        return _running(scene, node)
    if node.status is NodeStatus.PAUSED:
        return _paused(node)
    if node.status is NodeStatus.REVIEWING:
        release = "a verdict, or a person's order for another attempt"
        return _node(node, WaitReason.VERDICT, "its result is being reviewed", release, until=node.due_at)
    if missing := [dep for dep in node.deps if by_key[dep].status not in NODE_DONE]:
        return _blocked(node, missing, by_key)
    if held := held_before(node, by_key):
        detail = f"what it needs was made with the result of {_listed(held)}, which a verdict holds"
        return _node(node, WaitReason.DEPENDENCY, detail, f"what releases {_listed(held)}", on=held)
    return _ready(scene, node)


def _running(scene: Scene, node: SceneNode) -> Waiting:
    if scene.owner is None or _is_over(scene.owner, scene.now):
        detail = f"attempt {node.attempt} was under way when its executor stopped answering"
        return _node(node, WaitReason.EXECUTOR, detail, "another executor takes the run over and starts it again")
    until = scene.owner.lease_until
    detail = f"attempt {node.attempt} is under way, under the lease of {_worker(scene)} until {_clock(until)}"
    release = "its result; or the end of the lease, then another executor starts it again"
    return _node(node, WaitReason.RUNNING, detail, release, until=until, on=[str(scene.owner.id)])


def _paused(node: SceneNode) -> Waiting:
    if VERDICT in node.pause_reasons:
        return _rejected(node)
    if CONTROL in node.pause_reasons:
        who, when = f" by {node.asked_by}" if node.asked_by else "", node.asked_at or node.since
        detail = f"it was paused{who} at {_clock(when)}"
        return _node(node, WaitReason.PAUSED, detail, "resume or skip of the node", by=node.asked_by)
    if BUDGET in node.pause_reasons:
        return _short_of_money(node)
    reasons = ", ".join(node.pause_reasons)
    return _node(node, WaitReason.PAUSED, f"it is paused for: {reasons}", f"what settles: {reasons}")


def _needs_a_person(node: SceneNode) -> bool:
    """Its result is not accepted, also when it counts because it was found wanting too late to be held."""
    if node.status is NodeStatus.PAUSED:
        return VERDICT in node.pause_reasons
    return node.status is NodeStatus.COMPLETED and node.verdict is not None and node.verdict.effect is Effect.HOLD


def _rejected(node: SceneNode) -> Waiting:
    counts = node.status is NodeStatus.COMPLETED
    waits = "its result counts, and waits for a person" if counts else "it waits for a person's verdict"
    detail, found = f"{waits}: no review came in time", node.verdict
    if found is not None:
        who = "a review" if found.source is Source.AUTO else found.reviewer or "somebody"
        said = _shortened(found.critique or "")
        detail = f"{waits}: {who} gave it a score of {_score(found)}" + (said and f": {said}")
    if CONTROL in node.pause_reasons:
        detail += f"; it was paused as well{f' by {node.asked_by}' if node.asked_by else ''}"
    release = f"fluidcrew review accept|rerun {node.id}" + ("" if counts else ", or skip of the node")
    return _node(node, WaitReason.VERDICT, detail, release, by=found.reviewer if found else None)


def _score(verdict: Verdict) -> str:
    below = verdict.threshold is not None and verdict.score is not None and verdict.score < verdict.threshold
    return f"{verdict.score} < {verdict.threshold}" if below else str(verdict.score)


def _short_of_money(node: SceneNode) -> Waiting:
    short = node.shortage
    if short is None:
        return _node(node, WaitReason.BUDGET, "a budget did not bear its call", "the next look at its budgets")
    name = f"{short.scope} {short.scope_id}"
    release = f"a higher limit (fluidcrew budget set {name} USD), or room that calls under way give back"
    if short.need_usd is None:
        release = f"a price in LLM_PRICES and a restart, or the end of the budget (fluidcrew budget rm {name})"
    return _node(node, WaitReason.BUDGET, short.said(), release, on=[f"{short.scope}/{short.scope_id}"])


def _blocked(node: SceneNode, missing: list[str], by_key: Mapping[str, SceneNode]) -> Waiting:
    if broken := broken_before(node, by_key):
        detail = f"it needs {_listed(broken)}, which failed: without somebody's order it never runs"
        return _node(node, WaitReason.FAILED_DEPENDENCY, detail, f"skip or override of {_listed(broken)}", on=broken)
    states = ", ".join(f"{key} ({by_key[key].status})" for key in missing[:SHOWN_KEYS])
    return _node(node, WaitReason.DEPENDENCY, f"it needs the results of {states}", "their completion", on=missing)


def _ready(scene: Scene, node: SceneNode) -> Waiting:
    """It could start, as far as the plan goes."""
    if scene.pause_reasons:
        return _node(node, WaitReason.PAUSED, "its run is paused", "resume of the run", by=scene.asked_by)
    if node.weather is not None:
        return _held_by_weather(node, node.weather)
    if node.due_at is not None and node.due_at > scene.now:
        detail = f"attempt {node.attempt} ended with: {node.error}; it is repeated at {_clock(node.due_at)}"
        return _node(node, WaitReason.RETRY, detail, "the time of the next attempt", until=node.due_at)
    if scene.owner is None or _is_over(scene.owner, scene.now):
        return _node(node, WaitReason.EXECUTOR, "no executor holds its run", "an executor that takes the run")
    detail = f"{_worker(scene)} runs {_nodes(scene.owner.running)} and starts it as soon as a slot is free"
    return _node(node, WaitReason.SLOT, detail, "a free slot", on=[str(scene.owner.id)])


def _held_by_weather(node: SceneNode, weather: Weather) -> Waiting:
    until = f" until {_clock(weather.until)}" if weather.until else ""
    detail = f"{weather.provider}/{weather.model} is not to be had{until}: {weather.reason or 'its circuit is open'}"
    release = "the provider's recovery; one call at a time tries it"
    return _node(
        node, WaitReason.PROVIDER, detail, release, until=weather.until, on=[f"{weather.provider}/{weather.model}"]
    )


def _ordered(scene: Scene, what: str, status: str, order: Order, node: SceneNode | None = None) -> Waiting:
    who = f" by {order.by}" if order.by else ""
    holder = _worker(scene) if scene.owner and not _is_over(scene.owner, scene.now) else "the next executor"
    return Waiting(
        what="node" if what == "node" else "run",
        node_id=node.id if node else None,
        key=order.key,
        status=status,
        reason=WaitReason.ORDER,
        detail=f"{order.action} was ordered{who} at {_clock(order.at)} and is not carried out yet",
        release=f"{holder} sees the order",
        since=order.at,
        by=order.by,
    )


def _set_aside(scene: Scene, dead: DeadOrder) -> Waiting:
    order = dead.order
    who, of = f" by {order.by}" if order.by else "", f" of {order.key}" if order.key else ""
    given = f"{order.action}{of} was ordered{who}" if order.action != "verdict" else f"a verdict on {order.key} came"
    detail = f"{given} at {_clock(order.at)}, could not be carried out and is set aside: {_shortened(dead.reason)}"
    release = f"fluidcrew dlq replay {dead.letter}, once that is mended; its run goes on without it"
    return _run(scene, WaitReason.ORDER, detail, release, by=order.by)


class Beside(TypedDict, total=False):
    until: datetime | None
    by: str | None
    on: list[str]


def _run(scene: Scene, reason: WaitReason, detail: str, release: str, **beside: Unpack[Beside]) -> Waiting:
    since = scene.asked_at if reason is WaitReason.PAUSED and scene.asked_at else scene.since
    told: dict[str, Any] = {"reason": reason, "detail": detail, "release": release, **beside}
    return Waiting(what="run", status=scene.status, since=since, **told)


def _node(node: SceneNode, reason: WaitReason, detail: str, release: str, **beside: Unpack[Beside]) -> Waiting:
    told: dict[str, Any] = {"reason": reason, "detail": detail, "release": release, **beside}
    return Waiting(what="node", node_id=node.id, key=node.key, status=node.status, since=node.since, **told)


def _is_over(owner: Worker | None, now: datetime) -> bool:
    return owner is not None and (owner.dead or owner.lease_until <= now)


def _worker(scene: Scene) -> str:
    return f"worker {str(scene.owner.id)[:8]} on {scene.owner.host}" if scene.owner else "no worker"


def _nodes(count: int, one_does: str = "", they_do: str = "") -> str:
    return f"1 node {one_does}".rstrip() if count == 1 else f"{count} nodes {they_do}".rstrip()


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S} UTC"


def _shortened(text: str) -> str:
    return " ".join(text.split())[:SHOWN_WORDS]


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return ", ".join(keys[:SHOWN_KEYS]) + more
