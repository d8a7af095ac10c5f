"""Two stacks per worker at most: a calm one, and a rough one whose parts are killed. Each test finds everything up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.system.api import Api
from tests.system.collector import Collector
from tests.system.ledger import Ledger
from tests.system.stacks import stack_of
from tests.system.world import World


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if stack_of(item.path):
            item.add_marker(pytest.mark.system)
            item.add_marker(pytest.mark.timeout(150))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Whoever reads a failure needs the logs of the stack beside it."""
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        report.sections.append(
            ("logs of the stack", world.log_tails(40, [n for n in world.names if n not in ("nats", "s3")]))
        )
    return report


@pytest.fixture(scope="session")
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="session")
def calm_world(collector: Collector) -> Iterator[World]:
    yield from _started(World(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="200"))


@pytest.fixture(scope="session")
def rough_world() -> Iterator[World]:
    yield from _started(World())


def _started(world: World) -> Iterator[World]:
    try:
        world.start()
        yield world
    finally:
        world.stop()


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Complete and well, before and after the test; what died without being killed is a failure."""
    found: World = request.getfixturevalue(f"{stack_of(request.path)}_world")
    yield found
    died = found.died()
    found.repair()
    assert not died, f"ended by themselves, with code: {died}\n{found.log_tails(30, died)}"


@pytest_asyncio.fixture
async def api(world: World) -> AsyncIterator[Api]:
    supervising = asyncio.create_task(world.supervise())
    async with Api(world.url()) as client:
        yield client
    supervising.cancel()
    await asyncio.gather(supervising, return_exceptions=True)


@pytest_asyncio.fixture
async def ledger(world: World) -> AsyncIterator[Ledger]:
    ledger = Ledger(world.llm_url)
    yield ledger
    await ledger.forget_script()


@pytest.fixture
def stack_url(world: World) -> str:
    """The running stack's API, for whoever tests nothing but its HTTP."""
    return world.url()
