"""The peers that search: which environment and servers each needs, and in how many ways it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.knowledge.model import published
from bench.peers import environments
from bench.peers.peer import QUIET
from bench.peers.process import Driver, DriverFailed, awake, driver, wake

PATIENCE = 600.0  # seconds: it embeds a whole collection, or builds an index, before it answers


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer may use: a directory, and a Postgres whose owner it is."""

    directory: Path
    database_url: str


@dataclass(slots=True)
class Peer:
    """`ways` are how it can be asked, with the names that readers see; `indexed` what it is called once it has built an
    index, if that is not there by itself. Who has failed takes no further part."""

    ways: Mapping[str, str]
    driving: Driver
    indexed: str = ""
    failure: str = ""

    @property
    def versions(self) -> str:
        return ", ".join(f"{name} {version}" for name, version in self.driving.versions.items())

    async def ask(self, do: str, **given: Any) -> dict[str, Any]:
        if self.failure:
            raise DriverFailed(self.failure)
        with awake([self.driving.pid]):
            return await self.driving.ask(do, patience=PATIENCE, **given)

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        try:
            yield
        except DriverFailed as error:
            if not self.failure:
                print(f"  {self.ways['']} failed: {error}", flush=True)
            self.failure = self.failure or str(error)


Entering = Callable[[Place], AbstractAsyncContextManager[Peer]]


@asynccontextmanager
async def chroma(place: Place) -> AsyncIterator[Peer]:
    given = {"BENCH_DIRECTORY": str(place.directory / "chroma")}
    async with _driven("chroma", place, given) as driving:
        yield Peer({"": "Chroma, defaults"}, driving)


@asynccontextmanager
async def langchain(place: Place) -> AsyncIterator[Peer]:
    given = {"BENCH_DATABASE_URL": place.database_url}
    async with _driven("langchain", place, given) as driving:
        yield Peer(
            {"": "LangChain PGVectorStore", "hybrid": "the same, hybrid"},
            driving,
            indexed="LangChain PGVectorStore, with its HNSW index",
        )


@asynccontextmanager
async def _driven(name: str, place: Place, given: dict[str, str]) -> AsyncIterator[Driver]:
    """Raises LeftOut."""
    python = environments.environment(name) / "bin/python"
    environ = QUIET | {"BENCH_MODEL": str(published())} | given
    async with driver(python, f"bench.peers.{name}.driver", place.directory / f"{name}.log", environ) as driving:
        try:
            yield driving
        finally:
            wake([driving.pid])


FINDERS: dict[str, Entering] = {"chroma": chroma, "langchain": langchain}
