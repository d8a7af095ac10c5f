"""docs/benchmarks.md: the parts of the benchmark, each with what one needs to judge it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from bench.comparison import WAIT, Found
from bench.figures import PAGE, Report, commit, machine, versions
from bench.knowledge import measuring as searching
from bench.knowledge import section
from bench.rounds import Samples
from bench.verdicts import table

HEAD = """\
# Benchmarks

Written by `make bench` on {date:%Y-%m-%d} at commit {commit}, all figures in one session on one machine with everything
on it (clients, servers, services). Wall-clock figures move with the neighbours of a shared machine; the ratios of
interleaved rounds and the CPU per node do so much less. Load average when it began and when it ended: {loads}.

Machine: {machine}.
Versions: {versions}.
Command: `{command}`
"""

PEERS_HEAD = """
## Against peers

The same DAG of no-op nodes everywhere: root → 8 in parallel → join, and a chain of {steps}. Every result is durable
before the next node starts: Celery acknowledges late, with chords in a Redis whose append-only file is synced every
second; DBOS records each step and LangGraph each super-step (`durability="sync"`) in the same Postgres that we use, with
`fsync` on; ours commits every node's result, its attempt and two facts. {rounds} interleaved rounds (ours, Celery, DBOS,
LangGraph, ours, …) and their medians. CPU a node is that of executors, Postgres and NATS for us, of worker and Redis for
Celery, of process and Postgres for the others. A peer is stopped while it is not measured.

{targets}

| fan, {runs} runs at once | nodes/s | CPU a node | idle fan, p50 | chain, per step |
| --- | --- | --- | --- | --- |
{at_once}

| nodes that wait {wait:.0f} ms, {waiting_runs} runs at once | nodes/s | CPU a node | idle fan, p50 | chain, per step |
| --- | --- | --- | --- | --- |
{waiting}
"""
LATENCIES = (
    "Latencies: ours from the commit of the start to the commit of the completion, peers' as a client sees them."
)


@dataclass(slots=True)
class Measured:
    """What is told: the product's figures, the comparison with peers, search. What was left out is None, or empty."""

    report: Report = field(default_factory=Report)
    found: Found | None = None
    search: searching.Found | None = None
    left_out: list[str] = field(default_factory=list)

    @property
    def versions(self) -> list[str]:
        return [*(self.found.versions if self.found else []), *(self.search.versions if self.search else [])]


def write(measured: Measured, loads: str) -> None:
    PAGE.write_text(text(measured, loads), encoding="utf-8")


def text(measured: Measured, loads: str) -> str:
    parts = [
        HEAD.format(
            date=datetime.now(UTC),
            commit=commit(),
            loads=loads,
            machine=machine(),
            versions=", ".join(dict.fromkeys(", ".join([versions(), *measured.versions]).split(", "))),
            command=" ".join(["python -m bench", *sys.argv[1:]]),
        )
    ]
    if measured.found is not None:
        parts.append(against_peers(measured.found))
    if measured.report.figures:
        parts.append("\n## The product\n\n" + measured.report.table())
    if measured.search is not None:
        parts.append(section.text(measured.search))
    parts += [f"\nLeft out: {reason}.\n" for reason in measured.left_out]
    return "".join(parts)


def against_peers(found: Found) -> str:
    effort = found.effort
    head = PEERS_HEAD.format(
        steps=effort.steps,
        rounds=effort.rounds,
        targets=table(found.reached),
        runs=effort.runs,
        at_once=_rows(found.at_once),
        wait=WAIT * 1000,
        waiting_runs=effort.waiting_runs,
        waiting=_rows(found.waiting),
    )
    clocks = [f"{name} {clock}" for name, clock in found.clocks.items()]
    lines = [
        *found.notes,
        f"What the clock of nodes/s covers: {'; '.join(clocks)}.",
        LATENCIES,
        *(f"Left out: {reason}." for reason in found.left_out),
        *(
            f"{name} failed: {s.failure}."
            for name, s in chain(found.at_once.items(), found.waiting.items())
            if s.failure
        ),
    ]
    return head + "\n" + "\n".join(f"- {line}" for line in lines) + "\n"


def _rows(found: dict[str, Samples]) -> str:
    return "\n".join(_row(name, samples) for name, samples in found.items() if samples.full)


def _row(name: str, samples: Samples) -> str:
    rates = sorted(full.rate for full in samples.full)
    return (
        f"| {name} | {samples.rate:,.0f} [{rates[0]:,.0f}–{rates[-1]:,.0f}] | {samples.cpu:,.0f} µs | "
        f"{samples.idle_p50 * 1000:.1f} ms | {samples.step * 1000:.2f} ms |"
    )
