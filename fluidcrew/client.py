"""The gateway as the command line sees it: asks, waits out a short absence, turns every refusal into a line that helps."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from fluidcrew.exits import Exit, Halt
from fluidcrew.fields import wrong_field
from fluidcrew.render.words import person
from fluidcrew.sse import Message, messages
from fluidcrew.surroundings import api_key, api_url, login_name

ANSWER_SECONDS = 90.0  # a plan may take the server 60 s
SILENCE_SECONDS = 45.0  # three heartbeats of a stream
PATIENCE_SECONDS = 30.0  # how long an API that went away may take to come back
LONGEST_PAUSE = 2.0
RECONNECT_SECONDS = 0.25
ADVICE = {
    "run_active": "wait for its end (`fluidcrew show {run} --watch`), or `fluidcrew cancel {run}`",
    "paused": "`fluidcrew resume` or `fluidcrew reset` it first",
    "canceled": "`fluidcrew reset` it first",
    "waits_for_tasks": "`fluidcrew status` names them",
}
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Gateway:
    """`async with Gateway(url, key) as api: await api.get("/runs")`. Raises Halt and nothing else of HTTP."""

    def __init__(self, url: str, key: str, *, patience: float = PATIENCE_SECONDS) -> None:
        self.url = url.rstrip("/")
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
        return cls(api_url(environ), api_key(environ))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: Any) -> Any:
        return await self._ask("GET", path, params={k: v for k, v in query.items() if v is not None})

    async def find(self, path: str) -> Any | None:
        """None when there is no such thing (yet)."""
        return await self._ask("GET", path, missing_is_none=True)

    async def post(self, path: str, body: Any = None, *, request_id: str = "") -> Any:
        """Safe to repeat: every attempt carries the same idempotency key."""
        return await self._order("POST", path, body, {"X-Request-ID": request_id} if request_id else {})

    async def patch(self, path: str, body: Any) -> Any:
        """Safe to repeat, too."""
        return await self._order("PATCH", path, body, {})

    async def _order(self, method: str, path: str, body: Any, headers: Mapping[str, str]) -> Any:
        once = {"Idempotency-Key": str(uuid.uuid4()), "X-Actor": login_name()}
        return await self._ask(method, path, json=body, headers=once | dict(headers))

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

    async def _once(self, method: str, path: str, **options: Any) -> httpx.Response | httpx.HTTPError:
        try:
            return await self._http.request(method, path, **options)
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
        async with self._http.stream("GET", path, params=query, headers=headers, timeout=timeout) as response:
            if response.status_code == 503:
                raise httpx.ReadError("the API takes no streams right now", request=response.request)
            if response.is_error:
                await response.aread()
                raise refusal(response, self.url)
            yield response


def was_cut_off(error: httpx.HTTPError) -> bool:
    """It took our request and died."""
    return isinstance(error, httpx.ReadError | httpx.WriteError) or "disconnected" in str(error)


def pause_of(response: httpx.Response) -> float | None:
    """The server's word on when to ask again; None when that makes no sense."""
    if response.status_code not in (429, 503):
        return None
    named = response.headers.get("Retry-After", "1")
    return float(named) if named.isdecimal() else 1.0


def is_foreign(response: httpx.Response) -> bool:
    """Not in our words, and not a proxy's for a gateway that is away."""
    ours = "X-Request-ID" in response.headers or bool(_json(response))
    return not ours and response.status_code not in (502, 503, 504)


def refusal(response: httpx.Response, url: str) -> Halt:
    """Our own line for what every caller gets wrong at times, the server's words for the rest."""
    status, body = response.status_code, _json(response)
    said, more = detail_of(body)
    request_id = response.headers.get("X-Request-ID", "")
    if status == 401:
        return Halt(Exit.REFUSED, f"{url} refuses the key: set API_KEY to the one its gateway was started with")
    if status == 503:
        advice = "" if ": " in said else ": try again in a moment"  # what says what to do says it behind a colon
        return Halt(Exit.UNREACHABLE, f"{said or 'the API cannot answer right now'}{advice}")
    if status >= 500:
        return Halt(Exit.UNREACHABLE, f"the API failed ({status}, request {request_id or 'unknown'}): its log says why")
    if not body:
        return Halt(Exit.REFUSED, f"{response.request.method} {response.request.url} was refused ({status})")
    return Halt(Exit.REFUSED, advised(said or f"refused ({status})", body), more)


def advised(said: str, body: Mapping[str, Any]) -> str:
    """The server says what to do in its own terms, routes; here they are commands."""
    details = body.get("details")
    advice = ADVICE.get(str(body.get("code")), "")
    run_id = str(details.get("run_id") or "")[:8] if isinstance(details, Mapping) else ""
    return (
        f"{person(said.split('; ', maxsplit=1)[0])}: {advice.format(run=run_id or 'RUN')}" if advice else person(said)
    )


def detail_of(body: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """A problem as one line; several wrong fields as a line for each below it."""
    detail = body.get("detail")
    if isinstance(detail, str):
        return detail, ()
    lines = [wrong_field(error) for error in detail or [] if isinstance(error, Mapping)]
    if len(lines) == 1:
        return lines[0], ()
    return (f"{len(lines)} things are wrong with the request:" if lines else "", tuple(lines))


def _json(response: httpx.Response) -> Mapping[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, Mapping) else {}
