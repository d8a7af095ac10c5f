"""All of a run that may hold something up, at one moment: what `waiting` explains."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from contracts.budgets import Shortage
from contracts.executor import NodeStatus, RunStatus, Wanted
from contracts.verdict import Verdict


class Worker(NamedTuple):
    id: UUID
    host: str
    lease_until: datetime
    dead: bool
    running: int  # attempts, of all its runs


class Order(NamedTuple):
    """`key` is the node's; None for an order to the whole run."""

    action: str
    key: str | None
    at: datetime
    by: str | None


class Weather(NamedTuple):
    """The closed door a node stands before."""

    provider: str
    model: str
    reason: str | None
    until: datetime | None


class SceneNode(NamedTuple):
    id: UUID
    key: str
    status: NodeStatus
    deps: Sequence[str]
    attempt: int
    error: str | None
    due_at: datetime | None
    since: datetime  # when it last changed
    pause_reasons: Sequence[str]
    asked_by: str | None
    asked_at: datetime | None
    weather: Weather | None
    shortage: Shortage | None = None  # of money
    verdict: Verdict | None = None  # on its result


class DeadOrder(NamedTuple):
    """An order, or a verdict, that could not be carried out. `letter` is its dead letter."""

    letter: UUID
    order: Order
    reason: str
    set_aside_at: datetime


class Scene(NamedTuple):
    """`nodes` in plan order, `orders` and `dead` ones oldest first."""

    now: datetime
    run_id: UUID
    status: RunStatus
    wanted: Wanted
    asked_by: str | None
    asked_at: datetime | None
    pause_reasons: Sequence[str]
    since: datetime
    wake_at: datetime | None
    owner: Worker | None
    nodes: Sequence[SceneNode]
    orders: Sequence[Order]
    dead: Sequence[DeadOrder] = ()
