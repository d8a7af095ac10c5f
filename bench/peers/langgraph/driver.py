"""LangGraph's driver: one process that runs graphs; a checkpoint is in Postgres before the next super-step begins."""

from __future__ import annotations

import asyncio
import operator
import os
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict
from uuid import uuid4

import uvloop
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.peers.protocol import WIDTH, serve

POOL = 16
IN_FLIGHT = 64


class State(TypedDict):
    wait: float
    done: Annotated[list[int], operator.add]


def node(number: int) -> Callable[[State], Awaitable[dict[str, list[int]]]]:
    async def run(state: State) -> dict[str, list[int]]:
        if state["wait"]:
            await asyncio.sleep(state["wait"])
        return {"done": [number]}

    return run


def fan(saver: AsyncPostgresSaver) -> Any:
    graph: Any = StateGraph(State)
    graph.add_node("root", node(0))
    graph.add_node("join", node(WIDTH + 1))
    graph.add_edge(START, "root")
    middle = [f"n{n}" for n in range(1, WIDTH + 1)]
    for n, name in enumerate(middle, 1):
        graph.add_node(name, node(n))
        graph.add_edge("root", name)
    graph.add_edge(middle, "join")
    graph.add_edge("join", END)
    return graph.compile(checkpointer=saver)


def chain(saver: AsyncPostgresSaver, steps: int) -> Any:
    graph: Any = StateGraph(State)
    for n in range(steps):
        graph.add_node(f"s{n}", node(n))
        graph.add_edge(f"s{n - 1}" if n else START, f"s{n}")
    graph.add_edge(f"s{steps - 1}", END)
    return graph.compile(checkpointer=saver)


class LangGraph:
    def __init__(self, saver: AsyncPostgresSaver) -> None:
        self._saver = saver
        self._fan = fan(saver)
        self._chains: dict[int, Any] = {}

    async def one(self, wait: float) -> None:
        await self._run(self._fan, wait, WIDTH + 2)

    async def many(self, runs: int, wait: float) -> float:
        """Started inside the clock: the first checkpoint is one of the five that a run writes."""
        gate, began = asyncio.Semaphore(IN_FLIGHT), time.perf_counter()

        async def one() -> None:
            async with gate:
                await self.one(wait)

        await asyncio.gather(*(one() for _ in range(runs)))
        return time.perf_counter() - began

    async def chain(self, steps: int, wait: float) -> None:
        if steps not in self._chains:
            self._chains[steps] = chain(self._saver, steps)
        await self._run(self._chains[steps], wait, steps)

    async def close(self) -> None:
        pass

    async def _run(self, graph: Any, wait: float, nodes: int) -> None:
        config = {"configurable": {"thread_id": uuid4().hex}, "recursion_limit": 200}
        result = await graph.ainvoke({"wait": wait, "done": []}, config, durability="sync")
        assert len(result["done"]) == nodes


async def main() -> None:
    settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    url = os.environ["BENCH_DATABASE_URL"]
    async with AsyncConnectionPool(url, min_size=POOL, max_size=POOL, kwargs=settings, open=False) as pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        await serve(LangGraph(saver), "langgraph", "langgraph-checkpoint-postgres", "psycopg")


if __name__ == "__main__":
    uvloop.run(main())
