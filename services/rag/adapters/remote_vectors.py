"""Vectors by HTTP: anything with OpenAI's `/v1/embeddings`, Ollama among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
import numpy as np

from chassis.llm.departure import HOOKS, cleared_by
from contracts.errors import RetryLater
from contracts.knowledge import Embedder
from services.rag.adapters.paying import Bill, Cashier
from services.rag.domain.kinds import clean
from services.rag.domain.questions import NoVectors
from services.rag.domain.spending import Buyer

TIMEOUT = 30.0  # seconds
AT_ONCE = 64  # texts per request
LONGEST_WAIT = 60.0  # seconds that a server may ask us to stay away
BUSY = frozenset([408, 425, 429, 500, 502, 503, 504])
MOST_SAID = 300  # characters of a server's complaint


class Server(NamedTuple):
    """`url` ends with /v1; `variable` is what names it, for who has to mend it."""

    url: str
    key: str | None
    variable: str


class RemoteVectors:
    def __init__(self, servers: dict[str, Server], cashier: Cashier) -> None:
        """By provider."""
        self._servers = servers
        self._cashier = cashier
        self._client = httpx.AsyncClient(timeout=TIMEOUT, trust_env=False, event_hooks=HOOKS)

    async def vectors(self, embedder: Embedder, texts: Sequence[str], buyer: Buyer) -> Any:
        """One row of float32 per text, of length 1. Raises NoVectors, or RetryLater while the server is busy."""
        rows = [
            row
            for at in range(0, len(texts), AT_ONCE)
            for row in await self._some(embedder, texts[at : at + AT_ONCE], buyer)
        ]
        widths = sorted({len(row) for row in rows})
        if len(rows) != len(texts) or widths != [embedder.dimension]:
            raise NoVectors(
                f"{embedder.model} answered with {len(rows)} vectors of {' and '.join(map(str, widths)) or 'no'} numbers,"
                f" and the space expects {len(texts)} of {embedder.dimension}; set the space's dimension"
            )
        found = np.asarray(rows, np.float64)
        with np.errstate(over="ignore"):
            lengths = np.linalg.norm(found, axis=1, keepdims=True)
        if not np.isfinite(lengths).all():
            raise NoVectors(f"{embedder.model} answered with vectors of no finite numbers; look at the server's log")
        return (found / np.maximum(lengths, 1e-9)).astype(np.float32)

    async def _some(self, embedder: Embedder, texts: Sequence[str], buyer: Buyer) -> list[list[float]]:
        """One request, which is reserved before it leaves."""
        server = self._servers[embedder.provider]
        async with self._cashier.paid(embedder, server.url, texts, buyer, TIMEOUT) as bill:
            return await self._asked(server, embedder, texts, bill)

    async def _asked(self, server: Server, embedder: Embedder, texts: Sequence[str], bill: Bill) -> list[list[float]]:
        headers = {"Authorization": f"Bearer {server.key}"} if server.key else {}
        body = {"model": embedder.model, "input": list(texts), "encoding_format": "float"}
        try:
            with cleared_by(bill.clearance):
                answer = await self._client.post(f"{server.url}/embeddings", json=body, headers=headers)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise NoVectors(f"{server.variable} does not answer: {reason}; start it, or correct the address") from None
        if answer.status_code != httpx.codes.OK:
            bill.refused()
        if answer.status_code in BUSY:
            raise RetryLater(_pause(answer), f"{embedder.provider} answers {answer.status_code} to embeddings")
        if answer.status_code != httpx.codes.OK:
            raise NoVectors(f"{server.variable} answers {answer.status_code}: {clean(answer.text[:MOST_SAID])}")
        try:
            said = answer.json()
            bill.says(said.get("usage"))
            rows = sorted(said["data"], key=lambda row: row["index"])
            return [[float(number) for number in row["embedding"]] for row in rows]
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise NoVectors(f"{server.variable} does not answer as /v1/embeddings does ({error!r})") from None

    async def close(self) -> None:
        await self._client.aclose()


def _pause(answer: httpx.Response) -> float:
    try:
        asked = float(answer.headers.get("Retry-After", ""))
    except ValueError:
        return 2.0
    return min(max(asked, 0.1), LONGEST_WAIT) if math.isfinite(asked) else 2.0
