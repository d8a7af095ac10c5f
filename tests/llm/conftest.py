"""The fake model server and a model layer that talks to it, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from chassis.llm.models import Models
from chassis.llm.settings import LlmSettings
from chassis.testing.fake_openai import FakeOpenAI
from chassis.testing.model_server import fake_openai

__all__ = ["fake_openai", "models", "settings"]


@pytest.fixture
def settings(fake_openai: FakeOpenAI) -> LlmSettings:
    url = fake_openai.base_url
    return LlmSettings(
        openai_base_url=url,
        openai_api_key="sk-test",
        ollama_base_url=url,
        anthropic_base_url=fake_openai.root_url,
        anthropic_api_key="sk-ant-test",
        llm_demo_token_delay_ms=0,
    )


@pytest_asyncio.fixture
async def models(settings: LlmSettings) -> AsyncIterator[Models]:
    layer = Models(settings)
    yield layer
    await layer.aclose()
