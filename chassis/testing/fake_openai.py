"""A fake OpenAI-compatible server for tests: real HTTP on loopback, scripted or by magic words, with a ledger.

In a test: `async with FakeOpenAI() as server`, `server.script(Behaviour(status=500))`, `server.calls`.
As a process `python -m chassis.testing.fake_openai --port 0` prints its base URL;
it answers GET and DELETE /ledger and POST /script.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any, Literal, Self

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from chassis.llm.demo.provider import structured
from chassis.llm.demo.reading import read
from chassis.llm.provider import OutputSchema
from chassis.testing.fake_behaviour import Behaviour, spelled
from chassis.testing.loopback_http import Dropped, HttpRequest, HttpResponse, LoopbackHttp

SCRIPT = TypeAdapter(list[Behaviour])
EVENT_STREAM = {"content-type": "text/event-stream"}


class Call(BaseModel):
    """One line of the ledger. Times are of the wall clock."""

    number: int
    path: str
    model: str = ""
    stream: bool = False
    user: str = ""  # the last message of the user
    headers: dict[str, str] = Field(default_factory=dict)
    body: dict[str, Any] = Field(default_factory=dict, repr=False)
    outcome: Literal["open", "done", "failed", "disconnected", "dropped"] = "open"
    status: int | None = None
    tokens: int = 0  # sent
    at: float = 0
    ended_at: float | None = None


class FakeOpenAI:
    """`base_url` goes into OPENAI_BASE_URL or OLLAMA_BASE_URL."""

    def __init__(self, port: int = 0) -> None:
        self.calls: list[Call] = []
        self._script: deque[Behaviour] = deque()
        self._seen: Counter[str] = Counter()
        self._changed = asyncio.Condition()
        self._http = LoopbackHttp(self._handle, port)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.port}/v1"

    def script(self, *behaviours: Behaviour) -> None:
        """The next requests behave like this, one each; magic words rule those that follow."""
        self._script.extend(behaviours)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits for the ledger to say so, 10 s at most."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(holds)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    async def serve_forever(self) -> None:
        await self._http.serve_forever()

    async def _handle(self, request: HttpRequest, response: HttpResponse) -> None:
        match request.method, request.path.partition("?")[0]:
            case "POST", "/v1/chat/completions":
                await self._chat(request, response)
            case "GET", "/v1/models":
                await response.json(200, {"object": "list", "data": [{"id": "fake-1", "object": "model"}]})
            case "GET", "/ledger":
                await response.json(200, [call.model_dump() for call in self.calls])
            case "DELETE", "/ledger":
                self.calls.clear()
                self._seen.clear()
                await response.json(200, {})
            case "POST", "/script":
                await self._scripted(request, response)
            case _:
                await response.json(404, {"error": {"message": f"no route {request.method} {request.path}"}})

    async def _scripted(self, request: HttpRequest, response: HttpResponse) -> None:
        try:
            self.script(*SCRIPT.validate_json(request.body))
        except ValidationError as error:
            await response.json(422, {"error": {"message": str(error)}})
        else:
            await response.json(200, {"scripted": len(self._script)})

    async def _chat(self, request: HttpRequest, response: HttpResponse) -> None:
        call = await self._enter(request)
        behaviour = self._behaviour(call)
        try:
            await self._behave(call, behaviour, response)
            call.outcome = "done" if call.status == 200 else "failed"
        except Dropped:
            call.outcome = "dropped"
            raise
        except (asyncio.CancelledError, ConnectionError):
            call.outcome = "disconnected"
            raise
        finally:
            call.ended_at = time.time()
            await self._tell()

    async def _enter(self, request: HttpRequest) -> Call:
        body = json.loads(request.body)
        said = [m["content"] for m in body["messages"] if m["role"] == "user"]
        user = said[-1] if said and isinstance(said[-1], str) else json.dumps(said[-1:])
        call = Call(number=len(self.calls), path=request.path, headers=dict(request.headers), body=body, user=user)
        call.model, call.stream, call.at = body.get("model", ""), bool(body.get("stream")), time.time()
        self.calls.append(call)
        await self._tell()
        return call

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _behaviour(self, call: Call) -> Behaviour:
        earlier, self._seen[call.user] = self._seen[call.user], self._seen[call.user] + 1
        return self._script.popleft() if self._script else spelled(call.user, earlier)

    async def _behave(self, call: Call, behaviour: Behaviour, response: HttpResponse) -> None:
        if not (call.stream and behaviour.status == 200):
            await asyncio.sleep(behaviour.first_token_s)
        call.status = behaviour.status
        if behaviour.status != 200:
            error = {"message": behaviour.message, "type": "synthetic", "code": behaviour.code}
            await response.json(behaviour.status, {"error": error}, behaviour.headers)
        elif behaviour.raw_body is not None:
            await response.send(200, behaviour.raw_body.encode(), behaviour.headers)
        elif call.stream:
            await _streamed(call, behaviour, _Answer(call, behaviour), response)
        else:
            await _interrupt(behaviour, 0, whole=True)
            await response.json(200, _Answer(call, behaviour).whole(), behaviour.headers)


class _Answer:
    """The content of an answer, in the shapes of the chat completions API."""

    def __init__(self, call: Call, behaviour: Behaviour) -> None:
        self.text, self.tool = _content(call, behaviour)
        self.finish = behaviour.finish or ("tool_calls" if self.tool[0] else "stop")
        model = behaviour.model or call.model
        self.base = {"id": f"call-{call.number}", "created": int(call.at), "model": model}
        prompt, answer = len(json.dumps(call.body["messages"])) // 4, len(self.text or self.tool[1]) // 4 + 1
        counted = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        self.usage = counted if behaviour.usage else None

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.tool[0]:
            message["tool_calls"] = [self._tool_call(self.tool[1])]
        choice = {"index": 0, "finish_reason": self.finish, "message": message}
        return {**self.base, "object": "chat.completion", "choices": [choice], "usage": self.usage}

    def deltas(self) -> Iterator[dict[str, Any]]:
        if self.tool[0]:
            yield {"role": "assistant", "tool_calls": [{"index": 0, **self._tool_call("")}]}
            for part in re.findall(r"(?s).{1,12}", self.tool[1]):
                yield {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
        for word in re.findall(r"\s*\S+\s*", self.text):
            yield {"content": word}

    def event(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {**self.base, "object": "chat.completion.chunk", "choices": [choice]}

    def usage_event(self) -> dict[str, Any]:
        return {**self.base, "object": "chat.completion.chunk", "choices": [], "usage": self.usage}

    def _tool_call(self, arguments: str) -> dict[str, Any]:
        return {
            "id": f"t{self.base['id']}",
            "type": "function",
            "function": {"name": self.tool[0], "arguments": arguments},
        }


def _content(call: Call, behaviour: Behaviour) -> tuple[str, tuple[str, str]]:
    """The text and the tool call (name, arguments) of an answer; either may be empty."""
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in call.body.get("tools", [])}
    answered = call.body["messages"][-1]["role"] == "tool"
    if behaviour.tool and behaviour.tool[0] in offered and not answered:
        return "", (behaviour.tool[0], json.dumps(behaviour.tool[1]))
    if name := next((n for n in offered if n.startswith("final_result")), ""):
        return "", (name, _output(call, behaviour, offered[name]))
    form = call.body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return _output(call, behaviour, form["json_schema"]["schema"]), ("", "")
    said = f" | the tool said {call.body['messages'][-1]['content']}" if answered else ""
    return (f"echo: {call.user[-200:]}{said}" if behaviour.text is None else behaviour.text), ("", "")


def _output(call: Call, behaviour: Behaviour, schema: dict[str, Any]) -> str:
    if behaviour.raw_output is not None:
        return behaviour.raw_output
    if behaviour.output is not None:
        return json.dumps(behaviour.output)
    return structured(OutputSchema("output", schema), read("", call.user))


async def _streamed(call: Call, behaviour: Behaviour, answer: _Answer, response: HttpResponse) -> None:
    await response.start(200, {**EVENT_STREAM, **behaviour.headers})
    await asyncio.sleep(behaviour.first_token_s)
    for delta in answer.deltas():
        await _interrupt(behaviour, call.tokens)
        if call.tokens == behaviour.end_after:
            await response.finish()
            return
        await response.chunk(_event(answer.event(delta)))
        call.tokens += 1
        await asyncio.sleep(behaviour.token_s)
    if behaviour.bad_chunk:
        await response.chunk(b'data: {"choices": [\n\n')
    if behaviour.error_event:
        await response.chunk(_event({"error": {"message": behaviour.message, "code": behaviour.code}}))
    await response.chunk(_event(answer.event({}, answer.finish)))
    if answer.usage and (call.body.get("stream_options") or {}).get("include_usage"):
        await response.chunk(_event(answer.usage_event()))
    await response.chunk(b"data: [DONE]\n\n")
    await response.finish()


async def _interrupt(behaviour: Behaviour, tokens: int, whole: bool = False) -> None:
    if behaviour.drop_after is not None and (whole or tokens >= behaviour.drop_after):
        raise Dropped
    if behaviour.stall_after is not None and (whole or tokens >= behaviour.stall_after):
        await asyncio.Event().wait()


def _event(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


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
