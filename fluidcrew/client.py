"""The gateway as the command line sees it: asks, waits out a short absence, turns every refusal into a line that helps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from fluidcrew.exits import Exit, Halt
from fluidcrew.refusals import is_foreign, refusal
from fluidcrew.sse import Message, messages
from fluidcrew.surroundings import api_key, api_url, company, login_name

ANSWER_SECONDS = 90.0  # a plan may take the server 60 s
SILENCE_SECONDS = 45.0  # three heartbeats of a stream
PATIENCE_SECONDS = 30.0  # how long an API that went away may take to come back
LONGEST_PAUSE = 2.0
RECONNECT_SECONDS = 0.25
CHUNK = 2**18  # bytes of a file that are sent at once
NOBODYS = frozenset(
    {"admin", "companies", "config", "health", "providers"}
)  # paths that are the same for all companies
MARKDOWN = "text/markdown"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Gateway:
    """`async with Gateway(url, key) as api: await api.get("/runs")`. Raises Halt and nothing else of HTTP."""

    def __init__(self, url: str, key: str, *, company: str = "", patience: float = PATIENCE_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._company = company
        self._patience = patience
        self._met = False  # whether it has been there at all
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"X-API-Key": key, "User-Agent": "fluidcrew-cli"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=5.0),
            trust_env=urlsplit(self.url).hostname not in LOOPBACK,  # a proxy cannot know our loopback
        )

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Self:
        return cls(api_url(environ), api_key(environ), company=company(environ))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        return await self._ask("GET", path, params={k: v for k, v in query.items() if v is not None})

    async def report(self, path: str) -> str:
        """As Markdown, for people."""
        return str(await self._ask("GET", path, headers={"Accept": MARKDOWN}))

    async def find(self, path: str) -> Any | None:
        """None when there is no such thing (yet)."""
        return await self._ask("GET", path, missing_is_none=True)

    async def until(
        self, path: str, is_done: Callable[[Any], object], *, patience: float, every: float, **query: Any
    ) -> Any:
        """What is there once it is done, or as it is when patience ends."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + patience
        while True:
            found = await self.get(path, **query)
            if is_done(found) or loop.time() > deadline:
                return found
            await asyncio.sleep(every)

    async def post(self, path: str, body: Any = None, *, request_id: str = "") -> Any:
        """Safe to repeat: every attempt carries the same idempotency key."""
        return await self._order("POST", path, body, {"X-Request-ID": request_id} if request_id else {})

    async def patch(self, path: str, body: Any) -> Any:
        """Safe to repeat, too."""
        return await self._order("PATCH", path, body, {})

    async def put(self, path: str, body: Any) -> Any:
        """And this."""
        return await self._order("PUT", path, body, {})

    async def delete(self, path: str) -> Any:
        """And this."""
        return await self._order("DELETE", path, None, {})

    async def send(self, path: str, file: Path, content_type: str, **query: Any) -> Any:
        """A file as the body, of any size in little memory; safe to repeat."""
        body = FileBody(file)
        about = {"Content-Type": content_type, "Content-Length": str(body.size)} | _once()
        given = {k: v for k, v in query.items() if v is not None}
        return await self._ask("POST", path, params=given, content=body, headers=about)

    async def _order(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        return await self._ask(method, path, json=body, headers=_once() | dict(headers))

    async def _ask(self, method: str, path: str, *, missing_is_none: bool = False, **options: Any) -> Any:
        """An API that is restarting, or says that the owner of the answer is (503), is asked again for a while."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            answer = await self._once(method, path, **options)
            pause = self._pause(answer)
            if pause is None or loop.time() + pause > deadline:
                break
            await asyncio.sleep(pause)
        if isinstance(answer, httpx.HTTPError):
            raise self._unreachable(answer) from answer
        self._met = True
        if missing_is_none and answer.status_code == 404:
            return None
        return self._read(answer)

    def _place(self, path: str) -> str:
        named = self._company and path.split("/")[1] not in NOBODYS
        return f"/companies/{self._company}{path}" if named else path

    async def _once(self, method: str, path: str, **options: Any) -> httpx.Response | httpx.HTTPError:
        try:
            return await self._http.request(method, self._place(path), **options)
        except httpx.HTTPError as error:
            return error

    def _pause(self, answer: httpx.Response | httpx.HTTPError) -> float | None:
        """How long to wait before the same request makes sense again; None when it does not.

        Who has never answered is not waited for: probably nobody is there.
        """
        if isinstance(answer, httpx.Response):
            return pause_of(answer)
        self._met = self._met or was_cut_off(answer)
        return (
            RECONNECT_SECONDS
            if self._met and isinstance(answer, httpx.NetworkError | httpx.RemoteProtocolError)
            else None
        )

    def _read(self, response: httpx.Response) -> Any:
        if response.is_error:
            raise self._stranger() if is_foreign(response) else refusal(response, self.url)
        if response.status_code == 204:
            return None
        if response.headers.get("Content-Type", "").startswith(MARKDOWN):
            return response.text
        try:
            return response.json()
        except ValueError:
            raise self._stranger() from None

    def _unreachable(self, error: httpx.HTTPError) -> Halt:
        if isinstance(error, httpx.ReadTimeout):
            return Halt(
                Exit.UNREACHABLE, f"{self.url} did not answer within {ANSWER_SECONDS:.0f} s: look into its logs"
            )
        if isinstance(error, httpx.RemoteProtocolError) and not was_cut_off(error):
            return self._stranger()
        return Halt(
            Exit.UNREACHABLE, f"no API answers at {self.url}: start it with `fluidcrew up`, or set FLUIDCREW_URL"
        )

    def _stranger(self) -> Halt:
        return Halt(Exit.UNREACHABLE, f"what answers at {self.url} is no Fluidcrew: set FLUIDCREW_URL or PORT")

    async def events(self, path: str, **query: str) -> AsyncIterator[Message]:
        """A stream that outlives its connections: resumes after the last id, without gap and without repeat.

        Raises Halt when the API refuses, or stays away for longer than our patience.
        """
        last_id, retry, loop, lost_at = "", 0.2, asyncio.get_running_loop(), 0.0
        while True:
            try:
                async with self._stream(path, query, last_id) as response:
                    lost_at = 0.0
                    if response.status_code == httpx.codes.NO_CONTENT:  # the run is over; it may be opened again
                        await asyncio.sleep(LONGEST_PAUSE)
                    async for message in messages(response.aiter_bytes()):
                        last_id = last_id if message.id is None else message.id
                        if message.retry is not None:
                            retry = min(message.retry / 1000, LONGEST_PAUSE)
                        if message.event:
                            yield message
            except httpx.HTTPError as error:
                lost_at = lost_at or loop.time()
                if loop.time() - lost_at > self._patience:
                    raise self._unreachable(error) from error
            await asyncio.sleep(retry)

    @asynccontextmanager
    async def _stream(self, path: str, query: Mapping[str, str], last_id: str) -> AsyncIterator[httpx.Response]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        timeout = httpx.Timeout(SILENCE_SECONDS, connect=5.0)
        async with self._http.stream(
            "GET", self._place(path), params=query, headers=headers, timeout=timeout
        ) as response:
            if response.status_code == 503:
                raise httpx.ReadError("the API takes no streams right now", request=response.request)
            if response.is_error:
                await response.aread()
                raise refusal(response, self.url)
            yield response


class FileBody:
    """Read anew each time it is sent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = path.stat().st_size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._path.open, "rb")
        try:
            while data := await asyncio.to_thread(file.read, CHUNK):
                yield data
        finally:
            file.close()


def _once() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid.uuid4()), "X-Actor": login_name()}


def was_cut_off(error: httpx.HTTPError) -> bool:
    """It took our request and died."""
    return isinstance(error, httpx.ReadError | httpx.WriteError) or "disconnected" in str(error)


def pause_of(response: httpx.Response) -> float | None:
    """The server's word on when to ask again; None when that makes no sense."""
    if response.status_code not in (429, 503):
        return None
    named = response.headers.get("Retry-After", "1")
    return float(named) if named.isdecimal() else 1.0
