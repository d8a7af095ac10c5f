"""All figures of search in one session: side by side, then a library of 200,000 chunks beside what was filled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import numpy as np

from bench.contestant import LeftOut
from bench.knowledge import http, rivals, speed, store
from bench.knowledge.library import library
from bench.knowledge.rivals import Scoped, Scores
from bench.knowledge.speed import Question, Recall, Shelf, Speed
from bench.peers.finders import FINDERS, Entering, Peer, Place
from bench.peers.process import DriverFailed
from bench.retrieval.collection import NAMES, Collection, read
from bench.stack import World, world
from chassis import roles
from chassis.postgres import connect
from deploy.local.postgres import Postgres
from services.rag.embedding.graph import INSTALLED
from services.rag.embedding.minilm import MiniLM
from services.rag.store.graphs import Graph, GraphStore

BREADTHS = ("100", "200", "400", "800")  # of the walk through a graph
NEVER = str(10**9)  # chunks from which rag builds a graph itself: here it is built when all are there


@dataclass(frozen=True, slots=True)
class Effort:
    chunks: int = 200_000
    asked: int = 240  # questions of each scope
    timed: int = 60  # of each collection, side by side
    over_http: int = 400
    papers: int = 5
    collections: tuple[str, ...] = NAMES


QUICK = Effort(chunks=60_000, asked=90, timed=20, over_http=120, papers=3, collections=("cnil-fr",))


@dataclass(slots=True)
class Found:
    effort: Effort
    scores: dict[str, Scores] = field(default_factory=dict)
    speeds: dict[str, Speed] = field(default_factory=dict)
    recalls: dict[str, Recall] = field(default_factory=dict)
    breadths: dict[str, Recall] = field(default_factory=dict)
    scoped: dict[str, dict[str, Scoped]] = field(default_factory=dict)
    loaded: dict[str, float] = field(default_factory=dict)
    answers: list[float] = field(default_factory=list)
    papers: list[float] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def collections(data: Path, effort: Effort) -> list[Collection]:
    """Raises LeftOut."""
    if missing := [name for name in effort.collections if not (data / name / "corpus.jsonl").is_file()]:
        raise LeftOut(f"there is no collection {', '.join(missing)} in {data}; name their folder with EVAL_DATA")
    return [read(data / name) for name in effort.collections]


async def measure(asked: Sequence[Collection], effort: Effort, finders: Mapping[str, Entering] = FINDERS) -> Found:
    found = Found(effort)
    with TemporaryDirectory(prefix="fluidcrew-finding-") as name:
        directory = Path(name)
        async with world(RAG_GRAPH_FROM=NEVER) as running, AsyncExitStack() as stack:
            print("search, side by side", flush=True)
            peers = await _entered(found, running, directory, stack, finders)
            found.scores = await rivals.compared(running.http, list(peers.values()), asked, directory, effort.timed)
            found.papers = await http.papers(running.http, asked[0], effort.papers)
            await _in_a_library(found, running, peers, asked, directory)
            found.left_out += [f"{name}: {peer.failure}" for name, peer in peers.items() if peer.failure]
    return found


async def _entered(
    found: Found, running: World, directory: Path, stack: AsyncExitStack, finders: Mapping[str, Entering]
) -> dict[str, Peer]:
    postgres = running.running.stack.parts["postgres"]
    assert isinstance(postgres, Postgres), "the stack's own"
    await roles.create_database(postgres.url(), "langchain")
    place, entered = Place(directory, postgres.url("langchain")), {}
    for name, enter in finders.items():
        try:
            entered[name] = await stack.enter_async_context(enter(place))
        except (LeftOut, DriverFailed) as reason:
            found.left_out.append(f"{name}: {reason}")
            print(f"  left out: {found.left_out[-1]}", flush=True)
    found.versions = [peer.versions for peer in entered.values()]
    return entered


async def _in_a_library(
    found: Found, running: World, peers: Mapping[str, Peer], asked: Sequence[Collection], directory: Path
) -> None:
    print(f"search in {found.effort.chunks:,} chunks", flush=True)
    shelf = await shelved(running, found.effort.chunks)
    questions = questions_of(asked, found.effort.asked)
    found.speeds = await speed.against_study(shelf, questions)
    for name in shelf.library.scopes():
        found.recalls[name] = await speed.recall(shelf, questions, name)
        print(f"  recall, scope {name}: {found.recalls[name]}", flush=True)
    for breadth in BREADTHS:
        found.breadths[breadth] = await speed.recall(shelf, questions, "50 %", **{"hnsw.ef_search": breadth})
        print(f"  recall, scope 50 %, ef_search {breadth}: {found.breadths[breadth]}", flush=True)
    fresh = [f"{question.text} ?" for question in questions_of(asked, found.effort.over_http)]
    scopes = [shelf.asked_for(scope) for scope in shelf.library.scopes()["5 %"]]
    found.answers = await http.answers(running.http, scopes, list(dict.fromkeys(fresh)))
    found.scoped, found.loaded = await rivals.in_scopes(peers, shelf.library, questions, directory)


async def shelved(running: World, chunks: int) -> Shelf:
    url = running.running.stack.databases["rag"]
    async with _connected(url) as connection:
        made = library(*await store.seeds(connection), chunks, np.random.default_rng(chunks))
        spaces, ids = await store.put_in(connection, made)
        await GraphStore(url, "rag").build(Graph(await store.partition_of(connection), 384))
        numbers = await store.numbers_of(connection, spaces)
    return Shelf(made, spaces, numbers, {id: row for row, id in enumerate(ids)}, url)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await connect(url, "rag", jit="off")
    try:
        yield connection
    finally:
        await connection.close()


def questions_of(asked: Sequence[Collection], most: int) -> list[Question]:
    """As many of each collection as there are, by turns."""
    queues = [list(collection.questions.values()) for collection in asked]
    texts = [queue[at] for at in range(max(map(len, queues))) for queue in queues if at < len(queue)][:most]
    vectors = MiniLM(INSTALLED, threads=2).vectors(texts)
    return [Question(text, vector.tolist()) for text, vector in zip(texts, vectors, strict=True)]
