"""The product under evaluation: its own stack, filled and asked through HTTP as anybody would."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from bench.retrieval.collection import Collection, Text
from bench.stack import KEY, gathered, settings
from deploy.local.environment import CHECKOUT
from deploy.local.supervisor import running_stack

CLIENTS = 4
SENT_AT_ONCE = 16
DEPTH = 100
LOOK_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Filled:
    """A space with a collection in it. `rate` is chunks per second from the first request until all can be searched."""

    space_id: str
    chunks: int
    seconds: float

    @property
    def rate(self) -> float:
        return self.chunks / self.seconds


@asynccontextmanager
async def product() -> AsyncIterator[httpx.AsyncClient]:
    with tempfile.TemporaryDirectory(prefix="fluidcrew-eval-") as directory:
        os.chmod(directory, 0o755)
        silent = lambda source, line: None  # noqa: E731
        environment, headers = {**os.environ, **settings()}, {"X-API-Key": KEY}
        async with (
            running_stack(_home(Path(directory)), environ=environment, log=silent) as running,
            httpx.AsyncClient(base_url=running.api_url, headers=headers, timeout=60) as http,
        ):
            yield http


def _home(directory: Path) -> Path:
    """With the models that the checkout's own stack keeps: building one is no part of what is measured."""
    models = Path(os.environ.get("FLUIDCREW_HOME") or CHECKOUT / ".fluidcrew").absolute() / "models"
    models.mkdir(parents=True, exist_ok=True)
    home = directory / "home"
    home.mkdir()
    (home / "models").symlink_to(models)
    return home


async def fill(http: httpx.AsyncClient, collection: Collection) -> Filled:
    """Raises RuntimeError when a document does not become searchable."""
    body = {"name": collection.name, "language": collection.language}
    space_id = (await http.post("/knowledge/spaces", json=body)).raise_for_status().json()["id"]
    began = time.perf_counter()
    await gathered(SENT_AT_ONCE, [partial(_add, http, space_id, text) for text in collection.documents])
    while True:
        found = await _stats(http, space_id)
        states: Mapping[str, int] = found["documents"]
        if bad := {state: n for state, n in states.items() if n and state in ("failed", "needs_ocr")}:
            raise RuntimeError(f"{collection.name}: {bad} of its documents cannot be searched")
        if states.get("ready", 0) == len(collection.documents):
            return Filled(space_id, int(found["chunks"]), time.perf_counter() - began)
        await asyncio.sleep(LOOK_EVERY)


async def _add(http: httpx.AsyncClient, space_id: str, text: Text) -> None:
    title = " ".join(text.title.split())[:200] or text.id
    body = {"space_id": space_id, "external_id": text.id, "title": title, "text": text.text or title}
    (await http.post("/knowledge/documents", json=body)).raise_for_status()


async def _stats(http: httpx.AsyncClient, space_id: str) -> Mapping[str, Any]:
    spaces = (await http.get("/knowledge/stats")).raise_for_status().json()["spaces"]
    found: Mapping[str, Any] = next(each for each in spaces if each["space_id"] == space_id)
    return found


async def ask(
    http: httpx.AsyncClient, space_id: str, questions: Mapping[str, str], *, depth: int = DEPTH
) -> tuple[dict[str, list[str]], list[float]]:
    """The documents found for each question, each once, the best first; and what each answer took, in seconds."""

    async def one(question: str) -> tuple[list[str], float]:
        began = time.perf_counter()
        body = {"query": question, "space_ids": [space_id], "limit": depth}
        answer = (await http.post("/knowledge/search", json=body)).raise_for_status()
        took = time.perf_counter() - began
        found = answer.json()
        if found["degraded"]:
            raise RuntimeError(f"searched without vectors: {found['degraded']}")
        return list(dict.fromkeys(item["document"]["external_id"] for item in found["items"])), took

    answers: Sequence[tuple[list[str], float]] = await gathered(CLIENTS, [partial(one, q) for q in questions.values()])
    return {id: ranked for id, (ranked, _) in zip(questions, answers, strict=True)}, [took for _, took in answers]
