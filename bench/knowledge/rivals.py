"""Side by side: the same documents and questions through our HTTP, to Chroma and to LangChain, on one machine in one run."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.knowledge.library import Library
from bench.knowledge.speed import DEPTH, Question, share_found
from bench.peers.finders import Peer
from bench.retrieval.collection import Collection
from bench.retrieval.metrics import Quality, quality
from bench.retrieval.product import ask, fill

OURS = "Fluidcrew, over HTTP"
RANKED = 100  # passages that are asked for to judge ten documents: several may be of one document
LOADED_AT_ONCE = 20_000
SCOPES = 4  # of each share


@dataclass(slots=True)
class Scores:
    """Of one way to search. Latencies are of an answer of ten, in seconds, one client, the question embedded."""

    quality: dict[str, Quality] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    documents: int = 0
    rows: int = 0
    filling: float = 0.0

    @property
    def ingested(self) -> float:
        """Documents a second, until all can be searched."""
        return self.documents / self.filling if self.filling else 0.0


@dataclass(slots=True)
class Scoped:
    """Of one way to search in a scope of the library: its share of the ten nearest, and seconds, of vectors alone."""

    shares: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return float(np.mean(self.shares))


async def compared(
    http: httpx.AsyncClient, peers: Sequence[Peer], collections: Sequence[Collection], directory: Path, timed: int
) -> dict[str, Scores]:
    """Each collection is filled and asked by all before the next begins."""
    found = {OURS: Scores()} | {name: Scores() for peer in peers for name in peer.ways.values()}
    for collection in collections:
        space = await _filled(http, collection, found[OURS])
        texts = directory / f"{collection.name}.json"
        texts.write_text(json.dumps({text.id: f"{text.title}\n{text.text}".strip() for text in collection.documents}))
        for peer in peers:
            with peer.failing_alone():
                given = {"collection": collection.name, "language": collection.language, "texts": str(texts)}
                filled = await peer.ask("fill", **given)
                for name in peer.ways.values():
                    _note(found[name], len(collection.documents), filled["rows"], filled["seconds"])
        await _ranked(http, space, peers, collection, found)
        await _timed(http, space, peers, collection, found, timed)
        judged = {name: scores.quality.get(collection.name) for name, scores in found.items()}
        shown = (f"{name} {quality.ndcg_10:.3f}" for name, quality in judged.items() if quality)
        print(f"  {collection.name}, nDCG@10: {' · '.join(shown)}", flush=True)
    return found


async def _filled(http: httpx.AsyncClient, collection: Collection, scores: Scores) -> str:
    filled = await fill(http, collection)
    _note(scores, len(collection.documents), filled.chunks, filled.seconds)
    return filled.space_id


def _note(scores: Scores, documents: int, rows: int, seconds: float) -> None:
    scores.documents += documents
    scores.rows += rows
    scores.filling += seconds


async def _ranked(
    http: httpx.AsyncClient, space: str, peers: Sequence[Peer], collection: Collection, found: Mapping[str, Scores]
) -> None:
    ours, _ = await ask(http, space, collection.questions, depth=RANKED)
    found[OURS].quality[collection.name] = quality(ours, collection.relevant)
    for peer in peers:
        with peer.failing_alone():
            for way, name in peer.ways.items():
                answer = await _asked(peer, collection, list(collection.questions.values()), RANKED, way)
                ranked = {
                    id: list(dict.fromkeys(r)) for id, r in zip(collection.questions, answer["found"], strict=True)
                }
                found[name].quality[collection.name] = quality(ranked, collection.relevant)


async def _timed(
    http: httpx.AsyncClient, space: str, peers: Sequence[Peer], collection: Collection, found: Mapping[str, Scores],
    most: int,
) -> None:  # fmt: skip
    """By turns, ten questions each; in words that were not asked before."""
    questions = [f"{text} ?" for text in collection.questions.values()][:most]
    for start in range(0, len(questions), 10):
        some = questions[start : start + 10]
        for question in some:
            began, body = time.perf_counter(), {"query": question, "space_ids": [space], "limit": 10}
            (await http.post("/knowledge/search", json=body)).raise_for_status()
            found[OURS].seconds.append(time.perf_counter() - began)
        for peer in peers:
            with peer.failing_alone():
                for way, name in peer.ways.items():
                    found[name].seconds += (await _asked(peer, collection, some, 10, way))["seconds"]


async def _asked(peer: Peer, collection: Collection, questions: Sequence[str], limit: int, way: str) -> dict[str, Any]:
    given = {"collection": collection.name, "questions": list(questions), "limit": limit, "way": way}
    return await peer.ask("ask", **given)


async def in_scopes(
    peers: Mapping[str, Peer], library: Library, questions: Sequence[Question], directory: Path
) -> tuple[dict[str, dict[str, Scoped]], dict[str, float]]:
    """By the name of a way to search and that of a scope; and how many rows each peer took a second."""
    paths = {name: str(directory / f"{name}.npy") for name in ("vectors", "spaces", "questions")}
    np.save(paths["vectors"], library.vectors)
    np.save(paths["spaces"], library.of_space())
    np.save(paths["questions"], np.array([question.vector for question in questions], np.float32))
    found, rates = dict[str, dict[str, Scoped]](), dict[str, float]()
    for peer in peers.values():
        name = peer.ways[""]
        with peer.failing_alone():
            rates[name] = len(library.vectors) / await _loaded(peer, len(library.vectors), paths)
            found[name] = await _scoped(peer, name, library, questions, paths["questions"])
            if peer.indexed:
                await peer.ask("index")
                found[peer.indexed] = await _scoped(peer, peer.indexed, library, questions, paths["questions"])
    return found, rates


async def _loaded(peer: Peer, rows: int, paths: Mapping[str, str]) -> float:
    """The seconds that it took."""
    took = 0.0
    for start in range(0, rows, LOADED_AT_ONCE):
        order = {"start": start, "stop": min(start + LOADED_AT_ONCE, rows)}
        took += (await peer.ask("load", vectors=paths["vectors"], spaces=paths["spaces"], **order))["seconds"]
    return took


async def _scoped(
    peer: Peer, called: str, library: Library, questions: Sequence[Question], path: str
) -> dict[str, Scoped]:
    """Several scopes of each share, each with questions of its own."""
    found = dict[str, Scoped]()
    for name, all_scopes in library.scopes().items():
        scoped, scopes = found.setdefault(name, Scoped()), all_scopes[:SCOPES]
        for at, scope in enumerate(scopes):
            rows = list(range(at, len(questions), len(scopes)))
            given = {"questions": path, "rows": rows, "spaces": scope, "limit": DEPTH}
            answer = await peer.ask("near", **given)
            scoped.seconds += answer["seconds"]
            for row, near in zip(rows, answer["found"], strict=True):
                scoped.shares.append(share_found(library, scope, questions[row].vector, near))
        print(f"  {called}, scope {name}: recall {scoped.recall:.3f}", flush=True)
    return found
