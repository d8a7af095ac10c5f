"""The API's reference works without a network and without a key."""

from __future__ import annotations

import asyncio
import re
import threading

import httpx
import pytest
from fastapi import FastAPI

from tests.gateway.conftest import Gateway


async def test_the_docs_page_and_all_it_loads_come_from_the_gateway(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger:
        page = await stranger.get("/", follow_redirects=True)
        assert page.status_code == 200
        loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert len(loaded) == 3
        for path in loaded:
            assert path.startswith("/docs/"), "nothing from elsewhere"
            asset = await stranger.get(path)
            assert asset.status_code == 200
            assert len(asset.content) > 500
        assert (await stranger.get("/openapi.json")).json()["openapi"].startswith("3.1")


async def test_others_are_answered_while_the_reference_is_made(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = threading.Event()

    def made(_: FastAPI) -> dict[str, str]:
        assert others.wait(60)
        return {"openapi": "3.1.0"}

    monkeypatch.setattr("services.gateway.openapi.document", made)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=60) as stranger, asyncio.TaskGroup() as group:
        reference = group.create_task(stranger.get("/openapi.json"))
        assert (await stranger.get("/docs")).status_code == 200
        others.set()
        assert (await reference).json() == {"openapi": "3.1.0"}
