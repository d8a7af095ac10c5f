"""The tools that nodes are offered, and their use: what a model asks for is checked here, and done by the tool's owner."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

import structlog
from pydantic import BaseModel, ValidationError

from chassis.bus import Bus
from chassis.context import Context
from chassis.llm.call import Tool, ToolCall
from chassis.llm.structured import problems_of
from chassis.llm.text import clean
from contracts.errors import Code, FluidcrewError, Rejection, RetryLater
from contracts.tool import ToolContext, UseTool

log = structlog.get_logger(__name__)

MOST_OF_A_RESULT = 16_000  # characters


class OutOfTime(FluidcrewError):
    """The node's time was over before its tool had answered."""


@dataclass(frozen=True, slots=True)
class Place:
    """The attempt that uses tools. `deadline` is on the event loop's clock."""

    company: str
    run_id: UUID
    node_id: UUID
    attempt: int
    story: Context
    deadline: float

    def context(self, effect: int) -> ToolContext:
        return ToolContext(run_id=self.run_id, node_id=self.node_id, attempt=self.attempt, effect=effect)

    def command_id(self, effect: int) -> UUID:
        return uuid5(self.node_id, f"attempt {self.attempt} effect {effect}")


class Toolbox:
    """Every tool there is; none has to be there when it is offered."""

    def __init__(self, bus: Bus, kinds: Sequence[type[UseTool]]) -> None:
        self._bus = bus
        self._kinds = {kind.name(): kind for kind in kinds}
        if len(self._kinds) != len(kinds):
            raise ValueError(f"two tools have one name: {sorted(kind.name() for kind in kinds)}")
        self.offered = tuple(_offer(kind) for kind in kinds)

    async def use(self, call: ToolCall, effect: int, place: Place) -> str:
        """What to tell the model; its mistakes are told to it as well. Raises OutOfTime."""
        kind = self._kinds.get(call.name)
        if kind is None:
            return f"error: there is no tool {call.name!r}; there are {', '.join(self._kinds) or 'none'}"
        arguments = _arguments(call, kind)
        if isinstance(arguments, str):
            return (
                f"error: the arguments of {call.name} are wrong: {arguments}; call it again with what its schema asks"
            )
        request = kind(
            company=place.company,
            command_id=place.command_id(effect),
            context=place.context(effect),
            arguments=arguments,
        )
        return shortened(await self._told(request, place))

    async def _told(self, request: UseTool, place: Place) -> str:
        """The same request until there is an answer: its owner does it once."""
        while True:
            left = place.deadline - asyncio.get_running_loop().time()
            try:
                return (await self._bus.ask(request, place.story, patience=min(request.waits(), max(left, 0.01)))).text
            except RetryLater as away:
                delay, reason = away.delay, str(away)
            except Rejection as refusal:
                if refusal.failure.code is not Code.IN_FLIGHT:
                    return f"error: {refusal}"
                delay, reason = 1.0, "its owner is still at work on it"
            log.warning("node.waits_for_tool", tool=request.name(), reason=reason)
            if left <= delay:
                raise OutOfTime(f"the tool {request.name()} gave no result in the node's time: {reason}")
            await asyncio.sleep(delay)


def shortened(text: str, limit: int = MOST_OF_A_RESULT) -> str:
    text = clean(text)
    return text if len(text) <= limit else f"{text[:limit]}\n[cut: the first {limit:,} of {len(text):,} characters]"


def _offer(kind: type[UseTool]) -> Tool:
    return Tool(kind.name(), kind.description, kind.arguments_type().model_json_schema())


def _arguments(call: ToolCall, kind: type[UseTool]) -> BaseModel | str:
    """The arguments, or what is wrong with them."""
    if call.problem:
        return call.problem
    try:
        return kind.arguments_type().model_validate_json(json.dumps(dict(call.arguments)))
    except ValidationError as error:
        return "; ".join(problems_of(error))
