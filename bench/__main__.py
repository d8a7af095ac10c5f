"""`make bench`: every figure of docs/benchmarks.md in one session. ARGS="--help" lists what can be left out."""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from bench import demo, idle, latency, page, previews, reviews, runs
from bench.comparison import compare
from bench.contestant import LeftOut
from bench.figures import Report
from bench.knowledge import measuring
from bench.peers.finders import FINDERS
from bench.peers.peer import PEERS
from bench.retrieval.__main__ import DATA
from bench.rounds import QUICK, Effort
from bench.stack import world


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description="Measures, and writes docs/benchmarks.md.")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, one collection, a smaller library")
    parts = ("product", "peers", "retrieval")
    parser.add_argument("--only", choices=parts, help="one part of it; prints, and writes nothing")
    parser.add_argument(
        "--peers", type=_peers, default=tuple(PEERS), metavar="NAMES",
        help=f"which of {','.join(PEERS)}; `none` measures only ourselves, in search as well",
    )  # fmt: skip
    data = os.environ.get("EVAL_DATA", DATA)
    parser.add_argument(
        "--data", type=Path, default=Path(data), help=f"EVAL_DATA, or {DATA}: collections, as `make eval`"
    )
    parser.add_argument("--skip-demo", action="store_true", help="leave out `make demo` in a fresh clone")
    parser.add_argument("--print-only", action="store_true", help="leave docs/benchmarks.md as it is")
    return parser.parse_args(arguments)


def _peers(text: str) -> tuple[str, ...]:
    names = () if text == "none" else tuple(text.split(","))
    if unknown := [name for name in names if name not in PEERS]:
        raise argparse.ArgumentTypeError(f"no peer is called {unknown[0]!r}; there are {', '.join(PEERS)}, or none")
    return names


async def product(report: Report, *, quick: bool) -> None:
    async with world() as quiet:
        await idle.measure(report, quiet, seconds=5.0 if quick else 20.0)
        await runs.at_rest(report, quiet)
        await latency.requests(report, quiet)
        await latency.publish_to_sse(report, quiet)
        await reviews.calls(report, quiet)
        await previews.memory(report, quiet)
        await previews.publishing(report, quiet)
        await previews.serving(report, quiet, seconds=2 if quick else 5)
    async with world({"executor": 2}, EXECUTOR_CONCURRENCY="256") as busy:
        await runs.saturated(report, busy)
    async with world({"executor": 2}, FEEDBACK_REVIEWER="none") as gated:
        await reviews.overhead(report, gated)
        await reviews.throughput(report, gated)


def main() -> None:
    asked, measured = options(), page.Measured()
    before = os.getloadavg()[0]
    if asked.only in (None, "peers"):
        measured.found = asyncio.run(compare(asked.peers, QUICK if asked.quick else Effort()))
        print(page.against_peers(measured.found), flush=True)  # whatever becomes of the others
    if asked.only in (None, "product"):
        if not (asked.skip_demo or asked.quick):
            demo.measure(measured.report)
        asyncio.run(product(measured.report, quick=asked.quick))
    if asked.only in (None, "retrieval"):
        search(measured, asked)
    loads = f"{before:.1f}, {os.getloadavg()[0]:.1f}"
    if asked.print_only or asked.only:
        print(page.text(measured, loads))
    else:
        page.write(measured, loads)
        print("written to docs/benchmarks.md")


def search(measured: page.Measured, asked: argparse.Namespace) -> None:
    effort, finders = measuring.QUICK if asked.quick else measuring.Effort(), FINDERS if asked.peers else {}
    try:
        measured.search = asyncio.run(measuring.measure(measuring.collections(asked.data, effort), effort, finders))
    except LeftOut as reason:
        measured.left_out.append(f"search: {reason}")


if __name__ == "__main__":
    main()
