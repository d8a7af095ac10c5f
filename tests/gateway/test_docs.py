"""The API's reference works without a network and without a key."""

from __future__ import annotations

import re

import httpx

from tests.gateway.conftest import Gateway


async def test_the_docs_page_and_all_it_loads_come_from_the_gateway(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as stranger:
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
