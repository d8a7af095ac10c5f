"""The embedding process as its parent sees it: started when first needed, asked one thing at a time, replaced if it dies."""

from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from chassis.confined import gone, isolated
from services.rag.domain.questions import NoVectors

WORKER = Path(__file__).resolve().parents[1] / "embedding" / "__main__.py"
COMMAND = isolated(WORKER)
TIMEOUT = 120.0  # seconds for what is asked at once; the first time the graph is built
REFUSED = 10.0  # seconds until a model that is not installed is looked for again
AT_ONCE = 16  # texts: others are prepared meanwhile, or written down
MODEL = "all-MiniLM-L6-v2"
WIDTH = 384
FLOAT = 4  # bytes
STOPPING = "the service is stopping"


class _Asked(NamedTuple):
    texts: list[str]
    answer: asyncio.Future[Any]

    def accept(self, rows: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(rows)

    def refuse(self, why: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(why)


class LocalModel:
    """`threads` that it computes with; `niceness` lets others go first; `rest`: seconds without work until it is ended;
    `patience`: seconds until one that gives no answer is replaced."""

    def __init__(
        self,
        directory: Path,
        *,
        threads: int,
        niceness: int = 0,
        rest: float | None = None,
        patience: float = TIMEOUT,
    ) -> None:
        self._arguments = (str(directory), str(threads), str(niceness))
        self._rest = rest
        self._patience = patience
        self._news = asyncio.Event()
        self._process: Process | None = None
        self._waiting: deque[_Asked] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._refusal: tuple[float, str] | None = None

    async def vectors(self, texts: Sequence[str]) -> Any:
        """One row of float32 per text. Raises NoVectors. Who gives up leaves nothing half said: the answer is not heard."""
        if not texts:
            return np.empty((0, WIDTH), np.float32)
        return await self._ask(texts)

    def awake(self) -> None:
        """Starts the process for who will ask soon, and will be told then if it cannot be asked."""
        if self._process is None and not self._waiting:
            self._ask(["awake"]).add_done_callback(lambda answer: answer.cancelled() or answer.exception())

    def _ask(self, texts: Sequence[str]) -> asyncio.Future[Any]:
        asked = _Asked(list(texts), asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._news.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="embedding")
        return asked.answer

    async def _work(self) -> None:
        """What has come meanwhile is asked together, as far as that keeps its threads busy."""
        while await self._is_asked():
            together = [self._waiting.popleft()]
            while self._waiting and sum(len(one.texts) for one in together) < AT_ONCE:
                together.append(self._waiting.popleft())
            together = [one for one in together if not one.answer.done()]
            try:
                rows = await self._rows([text for one in together for text in one.texts])
            except asyncio.CancelledError:
                for one in together:
                    one.refuse(NoVectors(STOPPING))
                raise
            except Exception as error:  # noqa: BLE001 - raised again by those who asked
                await self._kill()  # or the rest of this answer would be taken for the next one
                for one in together:
                    one.refuse(error)
                continue
            at = 0
            for one in together:
                one.accept(rows[at : at + len(one.texts)])
                at += len(one.texts)

    async def _is_asked(self) -> bool:
        """False once nobody has asked for so long that the process was ended."""
        self._news.clear()
        if not self._waiting:
            try:
                async with asyncio.timeout(self._rest):
                    await self._news.wait()
            except TimeoutError:
                await self._kill()
        return bool(self._waiting)

    async def _rows(self, texts: list[str]) -> Any:
        for again in (True, False):
            try:
                async with asyncio.timeout(TIMEOUT):
                    process = await self._started()
                async with asyncio.timeout(self._patience):
                    return await self._exchange(process, texts)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                await self._kill()
                if not again:
                    raise NoVectors(f"the local embedding model does not answer ({type(error).__name__})") from None
        raise AssertionError("it was asked twice")

    async def _started(self) -> Process:
        now = asyncio.get_running_loop().time()
        if self._refusal and now < self._refusal[0]:
            raise NoVectors(self._refusal[1])
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *COMMAND, *self._arguments, stdin=PIPE, stdout=PIPE, env={}
            )
            said = json.loads(await _line(self._process))
            if "error" in said:
                await self._kill()
                self._refusal = now + REFUSED, said["error"]
                raise NoVectors(said["error"])
        return self._process

    async def _exchange(self, process: Process, texts: list[str]) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(texts).encode() + b"\n")
        await process.stdin.drain()
        count = int(await _line(process))
        data = await process.stdout.readexactly(count * WIDTH * FLOAT)
        return np.frombuffer(data, "<f4").reshape(count, WIDTH)

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await gone(process)

    async def close(self) -> None:
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        for one in self._waiting:
            one.refuse(NoVectors(STOPPING))
        await self._kill()


async def _line(process: Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise EOFError
    return line
