"""Between our values and pydantic-ai's: prompts and tools on their way out, pieces and tool calls on their way in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    ModelResponseStreamEvent,
    PartDeltaEvent,
    PartStartEvent,
    SystemPromptPart,
    TextPart,
    TextPartDelta,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition

from chassis.llm.call import Prompt, ToolCall, Usage
from chassis.llm.provider import Ask, Piece, SignOfLife, TextPiece
from chassis.llm.structured import decode
from chassis.llm.text import clean

IMPOSSIBLE_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


def settings_of(ask: Ask) -> ModelSettings:
    settings = ModelSettings(max_tokens=ask.max_tokens)
    if ask.tools and ask.tools_closed:
        settings["tool_choice"] = "none"
    return settings


def definition(
    name: str, schema: Mapping[str, Any], description: str, kind: Literal["function", "output"] = "function"
) -> ToolDefinition:
    return ToolDefinition(name=name, parameters_json_schema=dict(schema), description=description, kind=kind)


def messages_of(prompt: Prompt) -> list[ModelMessage]:
    system = [SystemPromptPart(prompt.system)] if prompt.system else []
    messages: list[ModelMessage] = [ModelRequest(parts=[*system, UserPromptPart(prompt.user)])]
    for done in prompt.rounds:
        calls = [ToolCallPart(call.name, dict(call.arguments), call.id) for call in done.calls]
        messages.append(ModelResponse(parts=[*([TextPart(done.text)] if done.text else []), *calls]))
        pairs = zip(done.calls, done.results, strict=True)
        messages.append(ModelRequest(parts=[ToolReturnPart(call.name, result, call.id) for call, result in pairs]))
    return messages


def piece_of(event: ModelResponseStreamEvent) -> Piece:
    if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
        return TextPiece(event.part.content)
    if isinstance(event, PartDeltaEvent):
        if isinstance(event.delta, TextPartDelta):
            return TextPiece(event.delta.content_delta)
        return SignOfLife(len(str(getattr(event.delta, "args_delta", None) or "")))
    return SignOfLife()


def usage_of(response: ModelResponse) -> Usage | None:
    counted = response.usage
    if not counted.input_tokens and not counted.output_tokens:
        return None
    return Usage(counted.input_tokens, counted.output_tokens, cached_tokens=counted.cache_read_tokens)


def arguments_of(part: ToolCallPart) -> str:
    """As the model wrote them; `args_as_json_str` would hide what is not valid."""
    return part.args if isinstance(part.args, str) else json.dumps(part.args or {})


def tool_call_of(part: ToolCallPart) -> ToolCall:
    """With `problem` instead of arguments when these are no JSON object: the model may be told, and try again."""
    try:
        arguments = decode(arguments_of(part))
    except (ValueError, RecursionError) as error:
        return _unreadable(part, str(error))
    if not isinstance(arguments, dict):
        return _unreadable(part, "an object is wanted")
    return ToolCall(clean(part.tool_call_id), _name(part), arguments)


def _unreadable(part: ToolCallPart, why: str) -> ToolCall:
    return ToolCall(clean(part.tool_call_id), _name(part), {}, f"they are no JSON object: {clean(why)}")


def _name(part: ToolCallPart) -> str:
    """The next request repeats it, and is refused with a name that no tool may have."""
    return IMPOSSIBLE_IN_A_NAME.sub("_", part.tool_name)[:64] or "unnamed"
