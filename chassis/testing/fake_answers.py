"""What the fake model server answers, in the shapes of OpenAI's chat completions and of Anthropic's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal, Protocol

from pydantic import BaseModel, Field

from chassis.llm.demo.provider import structured
from chassis.llm.demo.reading import read
from chassis.llm.provider import OutputSchema
from chassis.testing.fake_behaviour import Behaviour


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
    charged: int = 0  # tokens of the answer, as its usage tells
    at: float = 0
    ended_at: float | None = None


class Answer(Protocol):
    """`opening`, one of `tokens` each, then `closing` are what a stream sends."""

    def whole(self) -> dict[str, Any]: ...

    def opening(self) -> bytes: ...

    def tokens(self) -> Iterator[bytes]: ...

    def closing(self) -> bytes: ...

    def error(self) -> bytes: ...

    def broken(self) -> bytes: ...


class Content:
    """The text or the tool call of an answer, whatever the shape."""

    def __init__(self, call: Call, behaviour: Behaviour, offered: dict[str, Any], told: str, schema: Any) -> None:
        self.text = self.tool = self.arguments = ""
        self.uses = [(name, a if isinstance(a, str) else json.dumps(a)) for name, a in behaviour.uses]
        answer_tool = next((name for name in offered if name.startswith("final_result")), "")
        if self.uses:
            self.tool, self.arguments = self.uses[0]
            self.text = behaviour.text or ""
        elif behaviour.tool and behaviour.tool[0] in offered and not told:
            self.tool, self.arguments = behaviour.tool[0], json.dumps(behaviour.tool[1])
        elif answer_tool:
            self.tool, self.arguments = answer_tool, _output(call, behaviour, offered[answer_tool])
        elif schema is not None:
            self.text = _output(call, behaviour, schema)
        else:
            said = f" | the tool said {told}" if told else ""
            self.text = f"echo: {call.user[-200:]}{said}" if behaviour.text is None else behaviour.text
        self.prompt_tokens = len(json.dumps(call.body["messages"])) // 4
        self.completion_tokens = call.charged = len(self.text or self.arguments) // 4 + 1

    def parts(self) -> list[str]:
        """A word or a piece of JSON each."""
        return re.findall(r"(?s).{1,12}", self.arguments) if self.tool else re.findall(r"\s*\S+\s*", self.text)


def _output(call: Call, behaviour: Behaviour, schema: dict[str, Any]) -> str:
    if behaviour.raw_output is not None:
        return behaviour.raw_output
    if behaviour.output is not None:
        return json.dumps(behaviour.output)
    return structured(OutputSchema("output", schema), read("", call.user))


class ChatAnswer:
    """OpenAI's chat completions."""

    def __init__(self, call: Call, behaviour: Behaviour) -> None:
        body = call.body
        offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in body.get("tools", [])}
        last = body["messages"][-1]
        wanted = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
        self._behaviour = behaviour
        self._content = Content(call, behaviour, offered, last["content"] if last["role"] == "tool" else "", wanted)
        self._finish = behaviour.finish or ("tool_calls" if self._content.tool else "stop")
        self._base = {"id": f"call-{call.number}", "created": int(call.at), "model": behaviour.model or call.model}
        self._tells_usage = bool((body.get("stream_options") or {}).get("include_usage"))

    def whole(self) -> dict[str, Any]:
        content = self._content
        message: dict[str, Any] = {"role": "assistant", "content": content.text or None}
        if content.tool:
            message["tool_calls"] = [self._tool_call(content.arguments), *self._further()]
        choice = {"index": 0, "finish_reason": self._finish, "message": message}
        return {**self._base, "object": "chat.completion", "choices": [choice], "usage": self._usage()}

    def opening(self) -> bytes:
        tool = {"tool_calls": [{"index": 0, **self._tool_call("")}]} if self._content.tool else {}
        return self._event({"role": "assistant", **tool})

    def tokens(self) -> Iterator[bytes]:
        if self._content.tool and self._content.text:
            yield self._event({"content": self._content.text})
        for part in self._content.parts():
            arguments = {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}
            yield self._event(arguments if self._content.tool else {"content": part})
        for index, call in enumerate(self._further(), start=1):
            yield self._event({"tool_calls": [{"index": index, **call}]})

    def closing(self) -> bytes:
        usage = self._usage() if self._tells_usage else None
        counted = _sse({**self._base, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        return self._event({}, self._finish) + (counted if usage else b"") + b"data: [DONE]\n\n"

    def broken(self) -> bytes:
        return b'data: {"choices": [\n\n'

    def error(self) -> bytes:
        return _sse({"error": {"message": self._behaviour.message, "code": self._behaviour.code}})

    def _usage(self) -> dict[str, int] | None:
        prompt, answer = self._content.prompt_tokens, self._content.completion_tokens
        counted = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        return counted if self._behaviour.usage else None

    def _event(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _sse({**self._base, "object": "chat.completion.chunk", "choices": [choice]})

    def _further(self) -> list[dict[str, Any]]:
        """Every use of a tool but the first."""
        uses = enumerate(self._content.uses[1:], start=1)
        return [self._tool_call(arguments, name, f"-{index}") for index, (name, arguments) in uses]

    def _tool_call(self, arguments: str, name: str = "", suffix: str = "") -> dict[str, Any]:
        function = {"name": name or self._content.tool, "arguments": arguments}
        return {"id": f"tool-{self._base['id']}{suffix}", "type": "function", "function": function}


class MessagesAnswer:
    """Anthropic's messages."""

    def __init__(self, call: Call, behaviour: Behaviour) -> None:
        offered = {tool["name"]: tool["input_schema"] for tool in call.body.get("tools", [])}
        last = call.body["messages"][-1]["content"]
        results = [part for part in last if isinstance(part, dict) and part.get("type") == "tool_result"]
        self._behaviour = behaviour
        self._content = Content(call, behaviour, offered, json.dumps(results[0]["content"]) if results else "", None)
        self._finish = behaviour.finish or ("tool_use" if self._content.tool else "end_turn")
        self._message: dict[str, Any] = {"id": f"call-{call.number}", "type": "message", "role": "assistant"}
        self._message["model"] = behaviour.model or call.model

    def whole(self) -> dict[str, Any]:
        block = {**self._block(), "input": json.loads(self._content.arguments)} if self._content.tool else self._block()
        if not self._content.tool:
            block["text"] = self._content.text
        return {**self._message, "content": [block], "stop_reason": self._finish, "usage": self._usage()}

    def opening(self) -> bytes:
        usage = {**self._usage(), "output_tokens": 0}
        message = {**self._message, "content": [], "stop_reason": None, "usage": usage}
        start = {"type": "content_block_start", "index": 0, "content_block": self._block()}
        return self._event({"type": "message_start", "message": message}) + self._event(start)

    def tokens(self) -> Iterator[bytes]:
        for part in self._content.parts():
            arguments = {"type": "input_json_delta", "partial_json": part}
            delta = arguments if self._content.tool else {"type": "text_delta", "text": part}
            yield self._event({"type": "content_block_delta", "index": 0, "delta": delta})

    def closing(self) -> bytes:
        stop = {"type": "message_delta", "delta": {"stop_reason": self._finish}, "usage": self._usage()}
        block = {"type": "content_block_stop", "index": 0}
        return self._event(block) + self._event(stop) + self._event({"type": "message_stop"})

    def broken(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": \n\n'

    def error(self) -> bytes:
        return self._event({"type": "error", "error": {"type": "api_error", "message": self._behaviour.message}})

    def _block(self) -> dict[str, Any]:
        if self._content.tool:
            return {"type": "tool_use", "id": "tool-1", "name": self._content.tool, "input": {}}
        return {"type": "text", "text": ""}

    def _usage(self) -> dict[str, int]:
        counts = self._behaviour.usage
        prompt, answer = self._content.prompt_tokens, self._content.completion_tokens
        return {"input_tokens": prompt if counts else 0, "output_tokens": answer if counts else 0}

    def _event(self, value: dict[str, Any]) -> bytes:
        return f"event: {value['type']}\n".encode() + _sse(value)


def _sse(value: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()
