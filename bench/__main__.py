"""`make bench`: every figure of docs/benchmarks.md in one session; ARGS="--skip-demo" leaves the slow one out."""

from __future__ import annotations

import asyncio
import sys

from bench import demo, idle, latency, runs
from bench.figures import Report, write
from bench.stack import world


async def measure(report: Report) -> None:
    async with world() as quiet:
        await idle.measure(report, quiet)
        await runs.at_rest(report, quiet)
        await latency.requests(report, quiet)
        await latency.publish_to_sse(report, quiet)
    async with world({"executor": 2}, EXECUTOR_CONCURRENCY="256") as busy:
        await runs.saturated(report, busy)


def main() -> None:
    report = Report()
    print("measuring; this takes about two minutes", flush=True)
    if "--skip-demo" not in sys.argv:
        demo.measure(report)
    asyncio.run(measure(report))
    if "--print-only" not in sys.argv:
        write(report)
        print("written to docs/benchmarks.md")


if __name__ == "__main__":
    main()
