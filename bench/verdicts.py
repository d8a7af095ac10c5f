"""The targets: what was aimed at, what is the least, what was reached, and what that makes."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    AIM = "aim reached"
    FLOOR = "floor kept"
    MISSED = "missed"
    UNKNOWN = "not measured"


@dataclass(frozen=True, slots=True)
class Target:
    """`most` targets are to stay below their figures, the others to get above them."""

    name: str
    aim: float
    floor: float
    form: str  # how a figure is written: "≥ {:.0f}×" without its sign
    most: bool = False

    def verdict(self, reached: float | None) -> Verdict:
        if reached is None:
            return Verdict.UNKNOWN
        keeps = operator.le if self.most else operator.ge
        return (
            Verdict.AIM if keeps(reached, self.aim) else Verdict.FLOOR if keeps(reached, self.floor) else Verdict.MISSED
        )

    def row(self, reached: float | None) -> str:
        sign = "≤" if self.most else "≥"
        shown = "–" if reached is None else self.form.format(reached)
        aim, floor = (f"{sign} {self.form.format(figure)}" for figure in (self.aim, self.floor))
        return f"| {self.name} | {aim} | {floor} | {shown} | {self.verdict(reached)} |"


TARGETS = {
    "celery": Target("nodes/s against Celery + Redis, 100 runs of the fan", 20, 10, "{:.1f}×"),
    "dbos": Target("nodes/s against DBOS (one process), same", 50, 25, "{:.1f}×"),
    "langgraph": Target("nodes/s against LangGraph + Postgres saver, same", 20, 10, "{:.1f}×"),
    "cpu": Target("CPU per node: executors + Postgres + NATS", 120, 250, "{:.0f} µs", most=True),
    "cpu_timeline": Target("the same with a gateway projecting the timeline", 200, 350, "{:.0f} µs", most=True),
    "share": Target(
        "nodes/s of 1,000 runs, as a share of the 16-connection single-row commit rate", 60, 35, "{:.0f} %"
    ),
    "idle": Target("idle fan run, p50", 6, 10, "{:.1f} ms", most=True),
    "step": Target("chain, per step", 1, 2, "{:.2f} ms", most=True),
    "waiting_step": Target("nodes that wait 50 ms: overhead per step", 3, 6, "{:.1f} ms", most=True),
    "crowd": Target("growth: nodes/s with 10× the runs in flight", 0.9, 0.8, "{:.2f}×"),
    "history": Target("growth: nodes/s with the tables full of finished runs", 0.9, 0.8, "{:.2f}×"),
}


def table(reached: Mapping[str, float], targets: Mapping[str, Target] = TARGETS) -> str:
    rows = [target.row(reached.get(key)) for key, target in targets.items()]
    return "\n".join(["| target | aim | floor | reached | verdict |", "| --- | --- | --- | --- | --- |", *rows])
