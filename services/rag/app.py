"""Rag's composition: settings, the depot of bytes, the search with a pool of its own, handlers, subscriptions."""

from __future__ import annotations

from functools import partial

from chassis.depot import Strays
from chassis.llm.remote_purse import RemotePurses
from chassis.llm.settings import LlmSettings
from chassis.postgres import create_reading_pool
from chassis.retention import DAY, OldRows
from chassis.scratch import Scratch
from chassis.service import Chassis
from services.rag.adapters.cutter import Cutter
from services.rag.adapters.local_model import LocalModel
from services.rag.adapters.parser import Parser
from services.rag.adapters.paying import Cashier
from services.rag.adapters.remote_vectors import RemoteVectors, Server
from services.rag.adapters.vectors import Vectors
from services.rag.depot import Depot
from services.rag.domain.questions import Questions
from services.rag.domain.work import DELETE, GRAPH, INGEST, REEMBED, SUPERSEDE, VECTORS
from services.rag.handlers.deleting import Deleting, Forgotten
from services.rag.handlers.documents import Documents
from services.rag.handlers.effects import Removing
from services.rag.handlers.graphs import Graphs, Grown
from services.rag.handlers.ingesting import Ingesting, News
from services.rag.handlers.making import Making
from services.rag.handlers.reembedding import Reembedding, Vectorizing
from services.rag.handlers.searching import Searching
from services.rag.handlers.sources import Sources
from services.rag.handlers.spaces import Spaces
from services.rag.handlers.superseding import Superseding
from services.rag.handlers.tools import Tools
from services.rag.handlers.turns import Turns
from services.rag.settings import RagSettings
from services.rag.store.graphs import GraphStore
from services.rag.store.search import SETTINGS
from services.rag.store.spending import SpendingStore
from services.rag.subscribers import subscribe

SEARCHES = 8  # statements at once, per process
TOGETHER = 2  # questions whose vectors are computed
NICENESS = 5  # of what embeds documents: questions go first
HUNG = 10.0  # seconds that a question takes no healthy model, however busy the machine
REST = 60.0  # seconds without documents until its memory is given back
UNTIL_DONE = 100_000  # attempts: what a space waits for is never given up
TO_FINISH = 0.8  # of the time to drain that work under way has; the rest of it is handed back


async def build(chassis: Chassis, questions: Questions | None = None) -> None:
    settings: RagSettings = chassis.settings
    uow, pool, bus, jobs, lease = chassis.uow, chassis.pool, chassis.bus, chassis.jobs, settings.lease
    purses = RemotePurses(bus, uow, jobs)
    cashier = Cashier(purses, LlmSettings.load().llm_prices, SpendingStore(pool).note)
    vectors = vectors_of(settings, cashier)
    url = settings.database_url.get_secret_value()
    depot = Depot(chassis.blobs, pool)
    reading = await create_reading_pool(url, chassis.name, size=SEARCHES, **SETTINGS)
    scratch, removing, turns = Scratch("rag"), Removing(jobs, settings.unused_after), Turns(uow)
    searching = Searching(reading, questions or vectors, exact=settings.exact)
    subscribe(
        bus,
        Spaces(uow, turns, pool, jobs, removing),
        Documents(uow, turns, pool, jobs, Sources(bus, depot, scratch), removing),
        searching,
        Tools(uow, pool, bus, searching),
    )
    deleting = Deleting(uow, jobs, depot, settings.unused_after)
    graphs = Graphs(uow, jobs, GraphStore(url, chassis.name), settings.graph_from)
    ingestion(chassis, turns, depot, scratch, vectors)
    jobs.register(DELETE, deleting.work, concurrency=1, lease=lease)
    jobs.register(GRAPH, graphs.work, concurrency=1, lease=lease)
    keep = settings.retention_retrievals_days * DAY
    retrievals = OldRows("retrievals", ("node_id", "attempt", "effect"), "created_at", keep)
    calls = OldRows("embedding_calls", ("id",), "created_at", keep)
    chassis.retention.add(retrievals, calls, Forgotten(deleting), Strays(depot), Grown(graphs))
    chassis.on_drain(partial(jobs.drain, settings.drain_timeout * TO_FINISH))
    chassis.on_drain(vectors.stop_buying)
    chassis.on_drain(purses.drain)
    chassis.on_drain(cashier.drain)
    chassis.on_close(reading.close)
    chassis.on_close(scratch.close)


def ingestion(chassis: Chassis, turns: Turns, depot: Depot, scratch: Scratch, vectors: Vectors) -> None:
    """What makes documents searchable."""
    settings: RagSettings = chassis.settings
    uow, pool, jobs = chassis.uow, chassis.pool, chassis.jobs
    news = News(uow)
    making = Making(pool, depot, scratch, Parser(), Cutter(), vectors, news.tell)
    ingesting = Ingesting(uow, turns, pool, jobs, making, news)
    reembedding = Reembedding(uow, turns, pool, jobs, making)
    vectorizing, superseding = Vectorizing(uow, turns, pool, jobs, vectors), Superseding(uow, turns, jobs)
    jobs.register(INGEST, ingesting.work, concurrency=settings.concurrency, lease=settings.lease)
    jobs.register(REEMBED, reembedding.work, concurrency=1, max_attempts=UNTIL_DONE, lease=settings.lease)
    jobs.register(SUPERSEDE, superseding.work, concurrency=2, max_attempts=UNTIL_DONE, lease=settings.lease)
    jobs.register(VECTORS, vectorizing.work, concurrency=2, max_attempts=UNTIL_DONE, lease=settings.lease)
    chassis.background("model", vectors.warm)
    chassis.on_close(vectors.close)


def vectors_of(settings: RagSettings, cashier: Cashier) -> Vectors:
    key = settings.openai_api_key.get_secret_value() if settings.openai_api_key else None
    models = settings.home / "models"
    remote = RemoteVectors(
        {
            "openai": Server(settings.openai_base_url.rstrip("/"), key, "OPENAI_BASE_URL"),
            "ollama": Server(settings.ollama_base_url.rstrip("/"), None, "OLLAMA_BASE_URL"),
        },
        cashier,
    )
    questions = LocalModel(models, threads=TOGETHER, patience=HUNG)
    documents = LocalModel(models, threads=settings.threads, niceness=NICENESS, rest=REST)
    return Vectors(questions, documents, remote, keep=settings.questions)
