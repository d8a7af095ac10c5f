"""A server with /v1/embeddings on loopback: real HTTP, scripted answers, and a record of what was asked."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, NamedTuple

from chassis.testing.loopback_http import Dropped, HttpRequest, HttpResponse, LoopbackHttp
from contracts.budgets import Payer, Took
from services.rag.adapters.paying import Cashier
from services.rag.domain.spending import Buyer

NOBODY = Buyer("default", Payer(), "questions")


class Free:
    """A purse where no budget is in force."""

    took: Took | None = None

    def of(self, *_: object) -> Free:
        return self

    async def reserve(self, _: object) -> None: ...

    def settle(self, *_: object) -> asyncio.Future[None]:
        raise AssertionError("nothing was reserved")


async def _forget(_: object) -> None: ...


def cashier() -> Cashier:
    """For calls on their own, which nobody pays."""
    return Cashier(Free(), {}, _forget)


class Scripted(NamedTuple):
    status: int
    body: Any
    headers: dict[str, str]


class Embeddings(LoopbackHttp):
    """Counts letters when nothing is scripted: as much meaning as a test needs, in `width` numbers."""

    def __init__(self, width: int = 8) -> None:
        super().__init__(self._answer)
        self.asked: list[dict[str, Any]] = []
        self.is_away = False
        self.tokens: Any = None  # what it says that a request took; None: nothing
        self.answers = asyncio.Event()  # cleared: it takes requests and says nothing
        self.answers.set()
        self.breaks_off = False  # once it has read what it is asked
        self._width = width
        self._script: deque[Scripted] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, status: int, body: Any = "", **headers: str) -> None:
        """What the next request is answered."""
        self._script.append(Scripted(status, body, headers))

    def rows(self, *vectors: list[float]) -> None:
        """These vectors, the last first: their index says which is whose."""
        data = [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]
        self.script(200, {"data": data[::-1]})

    async def _answer(self, request: HttpRequest, response: HttpResponse) -> None:
        asked = json.loads(request.body)
        self.asked.append(asked | {"path": request.path, "key": request.headers.get("authorization")})
        await self.answers.wait()
        if self.breaks_off:
            raise Dropped
        if self._script:
            await response.json(*self._script.popleft())
        elif self.is_away:
            await response.json(503, {})
        else:
            data = [{"index": at, "embedding": self._letters(text)} for at, text in enumerate(asked["input"])]
            usage = (
                {} if self.tokens is None else {"usage": {"prompt_tokens": self.tokens, "total_tokens": self.tokens}}
            )
            await response.json(200, {"data": data} | usage)

    def _letters(self, text: str) -> list[float]:
        counted = [1.0] + [0.0] * (self._width - 1)
        for letter in text.casefold():
            counted[ord(letter) % self._width] += 1.0
        return counted
