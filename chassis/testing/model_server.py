"""The fixture `fake_openai`: import it into a conftest, or list this module in `pytest_plugins`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from chassis.testing.fake_openai import FakeOpenAI


@pytest_asyncio.fixture
async def fake_openai() -> AsyncIterator[FakeOpenAI]:
    """A server of this test's own."""
    async with FakeOpenAI() as server:
        yield server
