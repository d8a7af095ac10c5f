"""What people wait for: answers over HTTP with the question's vector made meanwhile, and a PDF that is to be found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import httpx

from bench.knowledge.paper import PAGES, pages_of, pdf
from bench.retrieval.collection import Collection
from bench.stack import gathered

CLIENTS = 4
LOOK_EVERY = 0.02
MOST_SECONDS = 120.0


async def answers(
    http: httpx.AsyncClient, scopes: Sequence[Sequence[UUID]], questions: Sequence[str], clients: int = CLIENTS
) -> list[float]:
    """Seconds of each answer of ten; one scope of them for each question, in turn. No question is asked twice."""

    async def one(at: int) -> float:
        body = {"query": questions[at], "space_ids": [str(id) for id in scopes[at % len(scopes)]], "limit": 10}
        began = time.perf_counter()
        answer = (await http.post("/knowledge/search", json=body)).raise_for_status()
        took = time.perf_counter() - began
        if answer.json()["degraded"]:
            raise RuntimeError(f"searched without vectors: {answer.json()['degraded']}")
        return took

    return await gathered(clients, [partial(one, at) for at in range(len(questions))])


async def papers(http: httpx.AsyncClient, collection: Collection, times: int) -> list[float]:
    """Seconds from the first byte of a PDF of ten pages until a search finds the last line of its last page."""
    body = {"name": "Papers", "language": collection.language}
    space = (await http.post("/knowledge/spaces", json=body)).raise_for_status().json()["id"]
    texts = [text.text for text in collection.documents]
    took, share = [], len(texts) // times
    for number in range(times):
        pages = pages_of(texts[number * share :])
        took.append(await _paper(http, space, f"paper-{number}.pdf", pages))
    return took


async def _paper(http: httpx.AsyncClient, space: str, name: str, pages: Sequence[str]) -> float:
    assert len(pages) == PAGES
    where, kind = {"space_id": space, "name": name}, {"content-type": "application/pdf"}
    data, began = pdf(pages), time.perf_counter()
    sent = await http.post("/knowledge/documents", params=where, content=data, headers=kind)
    id = sent.raise_for_status().json()["id"]
    async with asyncio.timeout(MOST_SECONDS):
        while (await _document(http, id))["state"] != "ready":  # noqa: ASYNC110  # another process' state
            await asyncio.sleep(LOOK_EVERY)
    last = [line for line in pages[-1].split("\n") if line][-1]
    ask = {"query": last, "space_ids": [space], "limit": 10}
    found = (await http.post("/knowledge/search", json=ask)).raise_for_status().json()["items"]
    took = time.perf_counter() - began
    if not any(item["document"]["id"] == id and item["page"] == PAGES for item in found):
        raise RuntimeError(f"{name} is ready, and its last page is not found")
    return took


async def _document(http: httpx.AsyncClient, id: str) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get(f"/knowledge/documents/{id}")).raise_for_status().json()
    if found["state"] in ("failed", "needs_ocr"):
        raise RuntimeError(f"a PDF could not be read: {found['error']}")
    return found
