"""Names what a run consists of."""

from __future__ import annotations

from uuid import UUID, uuid4


def ids_of_nodes(run_id: UUID, count: int) -> list[UUID]:
    """Random UUIDs (version 4) that begin with their run's eight bytes: a run's rows lie together in every index.

    With wholly random ids each node of a new run would go to a page of its own in each index, read, logged and
    written anew once the tables have grown beyond what is kept in memory.
    """
    return [UUID(bytes=run_id.bytes[:8] + uuid4().bytes[8:], version=4) for _ in range(count)]
