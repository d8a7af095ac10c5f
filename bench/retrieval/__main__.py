"""`make eval`: fills a stack of its own with collections, asks it their questions, and prints how well it finds."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench.figures import machine, milliseconds
from bench.retrieval.baselines import BASELINES, MOST_LOST_WITHOUT_ACCENTS, NDCG_FLOORS, ON_THESE
from bench.retrieval.collection import NAMES, Collection, is_held_out, read, without_accents
from bench.retrieval.metrics import Quality, quality
from bench.retrieval.product import CLIENTS, ask, fill, product

DATA = "../shared/data/retrieval"
TIMED = 200  # questions


@dataclass(frozen=True, slots=True)
class Result:
    all: Quality
    tuned: Quality
    held_out: Quality
    plain: Quality | None  # without accents


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make eval", description="Measures search on collections with known answers.")
    data = os.environ.get("EVAL_DATA", DATA)
    parser.add_argument("--data", type=Path, default=Path(data), help=f"EVAL_DATA, or {DATA}: a folder per collection")
    parser.add_argument("--only", choices=NAMES, action="append", help="may be given several times")
    return parser.parse_args(arguments)


def main() -> int:
    asked = options()
    folders = [asked.data / name for name in asked.only or NAMES]
    if missing := [str(folder) for folder in folders if not (folder / "corpus.jsonl").is_file()]:
        print(f"eval: there is no collection in {', '.join(missing)}; name their folder: make eval ARGS='--data PATH'")
        return 2
    collections = [read(folder) for folder in folders]
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}", flush=True)
    results = asyncio.run(_evaluated(collections))
    return _judged(results)


async def _evaluated(collections: Sequence[Collection]) -> Mapping[str, Result]:
    async with product() as http:
        return {each.name: await _of(http, each) for each in collections}


async def _of(http: httpx.AsyncClient, collection: Collection) -> Result:
    filled = await fill(http, collection)
    said = f"{len(collection.documents):,} documents, {filled.chunks:,} chunks, searchable after {filled.seconds:.1f} s"
    print(f"\n{collection.name} ({collection.language}): {said} ({filled.rate:.0f} chunks/s)", flush=True)
    ranked, _ = await ask(http, filled.space_id, collection.questions)
    plain = None
    if collection.language == "fr":
        typed = {id: without_accents(text) for id, text in collection.questions.items()}
        plain = quality((await ask(http, filled.space_id, typed))[0], collection.relevant)
    timed = {id: f"{text} ?" for id, text in list(collection.questions.items())[:TIMED]}  # no vector of them is known
    _, took = await ask(http, filled.space_id, timed, depth=10)
    result = Result(
        quality(ranked, collection.relevant),
        quality({id: r for id, r in ranked.items() if not is_held_out(id)}, collection.relevant),
        quality({id: r for id, r in ranked.items() if is_held_out(id)}, collection.relevant),
        plain,
    )
    _print(collection, result, took)
    return result


def _print(collection: Collection, result: Result, took: Sequence[float]) -> None:
    lines = [
        (f"all {len(collection.questions)} questions", result.all),
        ("four fifths, for choosing weights", result.tuned),
        ("the other fifth", result.held_out),
        *([("all, accents dropped", result.plain)] if result.plain else []),
    ]
    print(f"  {'':<78} nDCG@10 / recall@10 / recall@100")
    for name, found in lines:
        print(f"  {name:<78} {found}")
    for name, scores in BASELINES.items():
        print(f"  {f'study, its questions: {name}':<78} {scores[collection.name]}")
    for name, scores in ON_THESE.items():
        print(f"  {f'these questions: {name}':<78} {scores[collection.name]}")
    print(f"  answers of 10 over HTTP, {CLIENTS} clients, embedding included: {milliseconds(took)}", flush=True)


def _judged(results: Mapping[str, Result]) -> int:
    """1 when a floor is missed."""
    missed = [
        f"{name}: nDCG@10 {result.all.ndcg_10:.3f} is below {NDCG_FLOORS[name]:.2f}"
        for name, result in results.items()
        if result.all.ndcg_10 < NDCG_FLOORS[name]
    ]
    for name, result in results.items():
        lost = result.all.ndcg_10 - result.plain.ndcg_10 if result.plain else 0.0
        if lost > MOST_LOST_WITHOUT_ACCENTS:
            missed.append(f"{name}: {lost:.3f} is lost without accents, and {MOST_LOST_WITHOUT_ACCENTS} may be")
    print("\n" + ("\n".join(missed) if missed else "every floor is kept"))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
