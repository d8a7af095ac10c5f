"""A fake OpenAI-compatible server for tests: real HTTP on loopback, scripted or by magic words, with a ledger.

In a test: `async with FakeOpenAI() as server`, `server.script(Behaviour(status=500))`, `server.calls`.
As a process `python -m chassis.testing.fake_openai --port 0` prints its base URL;
it answers GET and DELETE /ledger (`?marked=…`: calls whose prompt holds that), POST and DELETE /script.
Anthropic's /v1/messages are served too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Self
from urllib.parse import parse_qs

from pydantic import TypeAdapter, ValidationError

from chassis.testing.fake_answers import Answer, Call, ChatAnswer, MessagesAnswer
from chassis.testing.fake_behaviour import Behaviour, spelled
from chassis.testing.loopback_http import Dropped, HttpRequest, HttpResponse, LoopbackHttp

SCRIPT = TypeAdapter(list[Behaviour])
SHAPES: dict[str, Callable[[Call, Behaviour], Answer]] = {
    "/v1/chat/completions": ChatAnswer,
    "/v1/messages": MessagesAnswer,
}
EVENT_STREAM = {"content-type": "text/event-stream"}


class FakeOpenAI:
    """`base_url` goes into OPENAI_BASE_URL or OLLAMA_BASE_URL, `root_url` into ANTHROPIC_BASE_URL."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self._script: deque[Behaviour] = deque()
        self.weather: Behaviour | None = None  # as long as it is set, all that is not scripted behaves like this
        self._seen: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._released = asyncio.Event()
        self._http = LoopbackHttp(self._handle, port)

    @property
    def root_url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}"

    @property
    def base_url(self) -> str:
        return f"{self.root_url}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        """The next requests behave like this, one each; magic words rule those that follow."""
        self._script.extend(behaviours)

    def release(self) -> None:
        """Whoever is held is answered, from now on at once."""
        self._released.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for the ledger to say so, 60 s at most."""
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(holds)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    async def serve_forever(self) -> None:
        await self._http.serve_forever()

    async def _handle(self, request: HttpRequest, response: HttpResponse) -> None:
        path, _, query = request.path.partition("?")
        match request.method, path:
            case "POST", path if path in SHAPES:
                await self._chat(path, request, response)
            case "GET", "/v1/models":
                await response.json(200, {"object": "list", "data": [{"id": "fake-1", "object": "model"}]})
            case "GET", "/ledger":
                marked = parse_qs(query).get("marked", [""])[0]
                await response.json(200, [call.model_dump() for call in self.calls if marked in call.user])
            case "DELETE", "/ledger":
                self.calls.clear()
                self._seen.clear()
                await response.json(200, {})
            case "POST", "/script":
                await self._scripted(request, response)
            case "DELETE", "/script":
                self._script.clear()
                await response.json(200, {})
            case _:
                await response.json(404, {"error": {"message": f"no route {request.method} {request.path}"}})

    async def _scripted(self, request: HttpRequest, response: HttpResponse) -> None:
        try:
            self.script(*SCRIPT.validate_python(json.loads(request.body)))  # pydantic's reader refuses lone surrogates
        except ValidationError as error:
            await response.json(422, {"error": {"message": str(error)}})
        else:
            await response.json(200, {"scripted": len(self._script)})

    async def _chat(self, path: str, request: HttpRequest, response: HttpResponse) -> None:
        call = await self._enter(path, request)
        try:
            await self._behave(call, self._behaviour(call), response)
            call.outcome = "done" if call.status == 200 else "failed"
        except Dropped:
            call.outcome = "dropped"
            raise
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "disconnected"
            raise
        except (KeyError, TypeError, AttributeError) as error:
            call.outcome, call.status = "failed", 400
            await response.json(400, {"error": {"message": f"a field is missing or wrong: {error}"}})
        finally:
            call.ended_at = time.time()
            await self._tell()

    async def _enter(self, path: str, request: HttpRequest) -> Call:
        body = json.loads(request.body)
        said = [_text(m["content"]) for m in body.get("messages", ()) if m["role"] == "user"] or [""]
        call = Call(number=len(self.calls), path=path, headers=dict(request.headers), body=body, user=said[-1])
        call.model, call.stream, call.at = body.get("model", ""), bool(body.get("stream")), time.time()
        self.calls.append(call)
        await self._tell()
        return call

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _behaviour(self, call: Call) -> Behaviour:
        earlier, self._seen[call.user] = self._seen[call.user], self._seen[call.user] + 1
        if self._script:
            return self._script.popleft()
        return self.weather or spelled(call.user, earlier)

    async def _behave(self, call: Call, behaviour: Behaviour, response: HttpResponse) -> None:
        if behaviour.held:
            await self._released.wait()
        if not (call.stream and behaviour.status == 200):
            await asyncio.sleep(behaviour.first_token_s)
        call.status = behaviour.status
        if behaviour.status != 200:
            error = {"message": behaviour.message, "type": "synthetic", "code": behaviour.code}
            await response.json(behaviour.status, {"error": error}, behaviour.headers)
        elif behaviour.raw_body is not None:
            await response.send(200, behaviour.raw_body.encode(), behaviour.headers)
        elif call.stream:
            await _streamed(call, behaviour, SHAPES[call.path](call, behaviour), response)
        else:
            await _interrupt(behaviour, 0, whole=True)
            await response.json(200, SHAPES[call.path](call, behaviour).whole(), behaviour.headers)


def _text(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


async def _streamed(call: Call, behaviour: Behaviour, answer: Answer, response: HttpResponse) -> None:
    await response.start(200, {**EVENT_STREAM, **behaviour.headers})
    await asyncio.sleep(behaviour.first_token_s)
    await response.chunk(answer.opening())
    for token in answer.tokens():
        await _interrupt(behaviour, call.tokens)
        if call.tokens == behaviour.end_after:
            await response.finish()
            return
        await response.chunk(token)
        call.tokens += 1
        await asyncio.sleep(behaviour.token_s)
    if behaviour.bad_chunk:
        await response.chunk(answer.broken())
    if behaviour.error_event:
        await response.chunk(answer.error())
    await response.chunk(answer.closing())
    await response.finish()


async def _interrupt(behaviour: Behaviour, tokens: int, whole: bool = False) -> None:
    if behaviour.drop_after is not None and (whole or tokens >= behaviour.drop_after):
        raise Dropped
    if behaviour.stall_after is not None and (whole or tokens >= behaviour.stall_after):
        await asyncio.Event().wait()


async def _main(port: int) -> None:
    async with FakeOpenAI(port) as server:
        print(server.base_url, flush=True)  # noqa: T201  # whoever started it reads the address
        await server.serve_forever()


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description="Fake OpenAI-compatible server on loopback.")
    arguments.add_argument("--port", type=int, default=0, help="0 lets the system choose")
    try:
        asyncio.run(_main(arguments.parse_args().port))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
