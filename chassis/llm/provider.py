"""The port of the model layer: what a provider is asked and the pieces in which it answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from chassis.llm.call import Cost, Prompt, Tool, ToolCall, Usage
from chassis.llm.departure import Clearance

Finish = Literal["stop", "length", "tool_calls"]


@dataclass(frozen=True, slots=True)
class OutputSchema:
    """The JSON Schema an answer must fit, and its name."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to one model. With `stream` off the provider may answer in one piece. It leaves only with `clearance`;
    with `tools_closed` the tools are named, as earlier rounds want it, but must not be asked for."""

    model: str
    prompt: Prompt
    max_tokens: int
    stream: bool
    schema: OutputSchema | None = None
    tools: tuple[Tool, ...] = ()
    tools_closed: bool = False
    clearance: Clearance = field(default_factory=Clearance)


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class SignOfLife:
    """The model works, but what it produced is no text of the answer (reasoning, pieces of JSON)."""

    characters: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """The end. `text` is the whole text; with a schema it is the raw JSON."""

    text: str
    usage: Usage | None  # None: the provider did not say
    model: str
    finish: Finish = "stop"
    tool_calls: tuple[ToolCall, ...] = ()


Piece = TextPiece | SignOfLife | Answer


class Provider(Protocol):
    """Who answers. Failures are raised as ModelFailure; closing the generator closes the HTTP request."""

    name: str
    endpoint: str | None  # without credentials
    simulated: bool

    def answer(self, ask: Ask) -> AsyncGenerator[Piece]: ...

    def price(self, model: str, usage: Usage) -> Cost: ...

    async def aclose(self) -> None: ...
