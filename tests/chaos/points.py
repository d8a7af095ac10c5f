"""A service that kills itself between two steps: `python -m tests.chaos.points executor "before publishing" 2`.

The product has no switch for it: this main wraps the product's own part, and runs the product's own main.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import os
import runpy
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Point:
    """`target` is `module:attribute`, or `module:Class.method`. An empty list as result does not count as passing it."""

    name: str
    service: str
    target: str
    after: bool = False
    #: what must happen beside a run: "wipe" the broker, "order" a pause, have it "review"ed, leave "orphans" behind before
    trigger: str = ""


EXECUTOR, PLANNER, GATEWAY = "services.executor", "services.planner", "services.gateway"
FEEDBACK, REVIEWING = "services.feedback", "services.feedback.handlers.reviewing:Reviewing"
POINTS = (
    Point("a run is committed, its starter not answered", "executor", f"{EXECUTOR}.handlers:Executor.start_run", True),
    Point(
        "an order is committed, not answered",
        "executor",
        f"{EXECUTOR}.steering.handlers:Steering.control_run",
        True,
        "order",
    ),
    Point("an order is taken, not obeyed", "executor", f"{EXECUTOR}.engine.store:take_orders", True, "order"),
    Point("a run is claimed, not committed", "executor", f"{EXECUTOR}.engine.store:claim_runs", True, "orphans"),
    Point("a node may begin, its model is not called", "executor", "chassis.llm.models:Models.complete"),
    Point("a model has answered, nobody knows", "executor", f"{EXECUTOR}.engine.runner:Runner.perform", True),
    Point("a turn is written, not committed", "executor", f"{EXECUTOR}.engine.at_once.store:save_within", True),
    Point(
        "a turn of one statement is committed, nobody knows", "executor", f"{EXECUTOR}.engine.at_once.store:save", True
    ),
    Point("a turn is committed, not acted on", "executor", f"{EXECUTOR}.engine.owner:Owner.take_over"),
    Point("rows are committed, not published", "executor", "chassis.relay:Relay.hand_over"),
    Point("rows are published, not marked", "executor", "chassis.relay:Relay._mark"),
    Point("a lost stream is read, not repaired", "executor", "chassis.repair:Repair._message_ids", True, "wipe"),
    Point(
        "a verdict is taken in, not acknowledged",
        "executor",
        f"{EXECUTOR}.reviewing.handlers:Reviewing.on_verdict",
        True,
        "review",
    ),
    Point(
        "a review is booked, its reviewer not answered",
        "executor",
        f"{EXECUTOR}.reviewing.handlers:Reviewing.book",
        True,
        "review",
    ),
    Point("a start is noted, the executor not asked", "planner", f"{PLANNER}.handlers.starting:Starting._order", True),
    Point("a start is accepted, not noted", "planner", f"{PLANNER}.handlers.starting:Starting._accepted"),
    Point("a launch is done, not answered", "planner", f"{PLANNER}.handlers.launching:Launching.launch", True),
    Point("a fact has arrived, nothing is done", "planner", f"{PLANNER}.handlers.runs:Runs.on_fact"),
    Point("a fact took effect, not acknowledged", "planner", f"{PLANNER}.handlers.runs:Runs.on_fact", True),
    Point("tasks are committed, not told of", "planner", "chassis.relay:Relay.hand_over"),
    Point("facts are read, not told", "gateway", f"{GATEWAY}.timeline:tell"),
    Point("facts are told, not acknowledged", "gateway", f"{GATEWAY}.timeline:tell", True),
    Point("a request is answered, its client not", "gateway", "chassis.bus:Bus.ask", True),
    Point("a result has arrived, its review is not noted", "feedback", f"{REVIEWING}.on_reviewing", False, "review"),
    Point("a review is noted, its result not acknowledged", "feedback", f"{REVIEWING}.on_reviewing", True, "review"),
    Point(
        "a review may begin, its model is not called", "feedback", "chassis.llm.models:Models.complete", False, "review"
    ),
    Point("a judge has answered, nobody knows", "feedback", "chassis.llm.models:Models.complete", True, "review"),
    Point(
        "an answer is written down, not booked", "feedback", f"{FEEDBACK}.store.calls:CallStore.keep", True, "review"
    ),
    Point("a review is booked, not recorded", "feedback", f"{REVIEWING}._book", True, "review"),
    Point("rows are committed, not published", "feedback", "chassis.relay:Relay.hand_over", False, "review"),
    Point("a review is over, its worker is not done", "feedback", f"{REVIEWING}._record", True, "review"),
)


def point(service: str, name: str) -> Point:
    return next(p for p in POINTS if (p.service, p.name) == (service, name))


def die_at(chosen: Point, nth: int) -> None:
    """The nth passing of the point is the end of this process."""
    owner, attribute = located(chosen.target)
    inner, passes = getattr(owner, attribute), itertools.count(1)

    def passed() -> None:
        if next(passes) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, attribute, (_async if inspect.iscoroutinefunction(inner) else _sync)(inner, passed, chosen.after))


def located(target: str) -> tuple[Any, str]:
    module, _, path = target.partition(":")
    owner: Any = importlib.import_module(module)
    *classes, attribute = path.split(".")
    for name in classes:
        owner = getattr(owner, name)
    return owner, attribute


def _async(inner: Callable[..., Any], passed: Callable[[], None], after: bool) -> Callable[..., Any]:
    async def wrapped(*arguments: Any, **named: Any) -> Any:
        if not after:
            passed()
        result = await inner(*arguments, **named)
        if after and result != []:
            passed()
        return result

    return wrapped


def _sync(inner: Callable[..., Any], passed: Callable[[], None], after: bool) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if not after:
            passed()
        result = inner(*arguments, **named)
        if after and result != []:
            passed()
        return result

    return wrapped


if __name__ == "__main__":
    service, name, nth = sys.argv[1:]
    die_at(point(service, name), int(nth))
    sys.argv = [f"services.{service}"]
    runpy.run_module(f"services.{service}", run_name="__main__")
