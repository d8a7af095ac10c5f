"""Graphs: a partition of vectors that has grown gets one, by a job, and is searched through it from then on."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.job_table import Job
from chassis.jobs import Jobs
from chassis.postgres import Connection
from chassis.unit_of_work import UnitOfWork
from contracts.refs import DEFAULT_COMPANY
from services.rag.domain.work import GRAPH
from services.rag.store.graphs import Graph, GraphStore


class Graphs:
    """`grown` vectors make a graph worth its upkeep: with one, each row that comes costs milliseconds."""

    def __init__(self, uow: UnitOfWork, jobs: Jobs, store: GraphStore, grown: int) -> None:
        self._uow = uow
        self._jobs = jobs
        self._store = store
        self._grown = grown

    async def look(self, connection: Connection) -> int:
        missing = await self._store.missing(connection, self._grown)
        for graph in missing:
            payload = {"partition": graph.partition, "dimension": graph.dimension}
            async with self._uow.begin() as tx:
                await self._jobs.enqueue(tx, GRAPH, graph.name, payload, company=DEFAULT_COMPANY)
        return len(missing)

    async def work(self, job: Job) -> None:
        graph = Graph(job.payload["partition"], job.payload["dimension"])
        await self._store.build(graph)
        async with self._uow.begin(job.context) as tx:
            await self._jobs.finish(tx, job, {"graph": graph.name})


@dataclass(frozen=True, slots=True)
class Grown:
    """A rule of retention: it is that loop which looks after tables, one process at a time."""

    graphs: Graphs
    name: str = "graphs"

    async def step(self, connection: Connection, _: int) -> int:
        await self.graphs.look(connection)
        return 0
