"""The SQL of graphs (HNSW) over partitions of vectors: built beside everything else, on a connection of its own."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.postgres import Connection, connect

#: m and ef_construction that find .993 of the neighbours at the breadth of our searches; 16/64 find .983
SHAPE = "m = 24, ef_construction = 128"
BUILDING = {"statement_timeout": "0", "maintenance_work_mem": "512MB", "max_parallel_maintenance_workers": "2"}

GROWN = """
select p.relname as partition, vector_dims(v.h) as dimension, count(*) as n
from vectors v join pg_class p on p.oid = v.tableoid
where p.reltuples >= $1 * 0.5 or pg_relation_size(p.oid) > $1 * 400
group by p.relname, vector_dims(v.h) having count(*) >= $1
"""
INDEXES = """
select c.relname, i.indisvalid from pg_index i join pg_class c on c.oid = i.indexrelid
where c.relnamespace = current_schema()::regnamespace and c.relname like 'graph\\_%'
"""


@dataclass(frozen=True, slots=True)
class Graph:
    """Over the vectors of one length in a partition."""

    partition: str
    dimension: int

    @property
    def name(self) -> str:
        return f"graph_{self.dimension}_of_{self.partition}"


class GraphStore:
    def __init__(self, url: str, schema: str) -> None:
        self._url = url
        self._schema = schema

    async def missing(self, connection: Connection, from_rows: int) -> list[Graph]:
        """Of partitions that have so many vectors of one length."""
        valid = {row["relname"] for row in await connection.fetch(INDEXES) if row["indisvalid"]}
        found = [Graph(row["partition"], row["dimension"]) for row in await connection.fetch(GROWN, from_rows)]
        return [graph for graph in found if graph.name not in valid]

    async def build(self, graph: Graph) -> None:
        """Nobody waits for it. What an earlier attempt has left unfinished goes first."""
        connection = await connect(self._url, self._schema, **BUILDING)
        try:
            await connection.execute(f"drop index concurrently if exists {graph.name}", timeout=None)
            await connection.execute(
                f"""
                create index concurrently {graph.name} on {graph.partition}
                using hnsw ((h::halfvec({graph.dimension})) halfvec_ip_ops) with ({SHAPE})
                where vector_dims(h) = {graph.dimension}
                """,
                timeout=None,
            )
        finally:
            await connection.close()
