"""`python -m bench.knowledge`: search over HTTP in a library that is kept, so that a change is measured in a minute."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from uuid import UUID

from bench import cpu
from bench.figures import machine, quantile
from bench.knowledge import http, measuring
from bench.knowledge.measuring import NEVER, Effort
from bench.peers import environments
from bench.retrieval.__main__ import DATA
from bench.retrieval.collection import Collection
from bench.retrieval.product import fill
from bench.stack import World, world

WARMING = 40  # questions


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.knowledge",
        description="Measures answers over HTTP in a library; the first time it makes one, which takes minutes.",
    )
    parser.add_argument("--chunks", type=int, default=Effort().chunks)
    parser.add_argument("--scope", choices=(".5 %", "5 %", "50 %"), default="5 %")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, http.CLIENTS], metavar="N")
    parser.add_argument("--questions", type=int, default=Effort().over_http, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    data = Path(os.environ.get("EVAL_DATA", DATA))
    parser.add_argument("--data", type=Path, default=data, help=f"EVAL_DATA, or {DATA}: collections, as `make eval`")
    return parser.parse_args(arguments)


def main() -> None:
    asked = options()
    asyncio.run(_measured(asked, measuring.collections(asked.data, Effort())))


async def _measured(asked: argparse.Namespace, collections: Sequence[Collection]) -> None:
    kept = environments.directory() / f"library-{asked.chunks}"
    index = kept / "spaces.json"
    if not index.exists():
        await _made(kept, asked.chunks, collections)
    scopes = [[UUID(id) for id in scope] for scope in json.loads(index.read_text())[asked.scope]]
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; scope {asked.scope} of {asked.chunks:,} chunks", flush=True)
    async with world(home=kept / "home", RAG_GRAPH_FROM=NEVER) as running:
        texts = [question.text for question in measuring.questions_of(collections, asked.questions)]
        await http.answers(running.http, scopes, [f"{text} !" for text in texts[:WARMING]])
        for number in range(1, asked.rounds + 1):
            for clients in asked.clients:
                fresh = [f"{text} {'?' * number} {clients}" for text in texts]  # no vector of them is known
                before = _used(running)
                seconds = await http.answers(running.http, scopes, fresh, clients)
                _print(clients, seconds, {name: used - before[name] for name, used in _used(running).items()})


async def _made(kept: Path, chunks: int, collections: Sequence[Collection]) -> None:
    print(f"a library of {chunks:,} chunks is made in {kept}", flush=True)
    async with world(home=kept / "home", RAG_GRAPH_FROM=NEVER) as running:
        for collection in collections:
            filled = await fill(running.http, collection)
            print(f"  {collection.name}: {filled.chunks:,} chunks", flush=True)
        shelf = await measuring.shelved(running, chunks)
        scopes = shelf.library.scopes().items()
        named = {name: [[str(id) for id in shelf.asked_for(scope)] for scope in of] for name, of in scopes}
        (kept / "spaces.json").write_text(json.dumps(named))


def _print(clients: int, seconds: Sequence[float], used: Mapping[str, float]) -> None:
    took = " / ".join(f"{value * 1000:.1f}" for value in (median(seconds), quantile(seconds, 0.95)))
    parts = " · ".join(f"{name} {used[name] / len(seconds) * 1000:.1f}" for name in used)
    whole = sum(used.values()) / len(seconds) * 1000
    print(f"  {clients} clients: p50 / p95 {took} ms; CPU of a search {whole:.1f} ms: {parts}", flush=True)


def _used(running: World) -> dict[str, float]:
    """Seconds of CPU so far, by who takes part in a search; rag's models are processes of their own."""
    found = {name: cpu.seconds([running.running.stack.parts[name].child.pid or 0]) for name in ("nats", "postgres")}
    for service in ("gateway", "rag"):
        pids = [process.child.pid or 0 for process in running.running.of(service)]
        found[service] = cpu.seconds(pids, alone=True)
        found[f"{service}'s children"] = cpu.seconds(pids) - found[service]
    return found


if __name__ == "__main__":
    main()
