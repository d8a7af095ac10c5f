"""The talk of one attempt with its model: ask, do what it wants done with tools, ask again, until it gives its answer."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import structlog

from chassis.llm.call import Completion, ModelChoice, ModelFailure, Prompt, Tool, ToolCall, ToolRound
from chassis.llm.departure import Clearance
from chassis.llm.spending import Purse
from contracts.errors import FluidcrewError
from services.executor.engine.account import Account
from services.executor.engine.tokens import TokenStream
from services.executor.engine.toolbox import OutOfTime, Place, Toolbox
from services.executor.engine.weather.calls import Calls
from services.executor.engine.weather.ticket import Ticket

log = structlog.get_logger(__name__)

MOST_USES_AT_ONCE = 16  # of tools, in one answer


#: as Ollama, vLLM and llama.cpp say that a model, or its server, takes none
ABOUT_TOOLS = re.compile(r"\btools?\b", re.IGNORECASE)
LAST_ROUND = "\n[this was the last use of tools: give your answer now]"


class NoEnd(FluidcrewError):
    """The model goes on asking for tools."""


@dataclass(frozen=True, slots=True)
class Talk:
    """What is particular to one attempt. `sure` returns when we may begin something that costs, or never."""

    ticket: Ticket
    prompt: Prompt
    place: Place
    tokens: TokenStream
    account: Account
    sure: Callable[[], Awaitable[None]]
    purse: Purse | None = None

    def time_left(self) -> float:
        return self.place.deadline - asyncio.get_running_loop().time()


class Conversation:
    def __init__(self, calls: Calls, toolbox: Toolbox, most_rounds: int) -> None:
        self._calls = calls
        self._toolbox = toolbox
        self._most_rounds = most_rounds
        self._toolless: set[ModelChoice] = set()  # models that refuse requests which offer tools

    async def hold(self, talk: Talk) -> Completion[Any]:
        """The answer. Raises ModelFailure, OutOfTime or NoEnd; the account knows every call that was made."""
        prompt, effects = talk.prompt, count(1)
        for rounds in range(self._most_rounds + 1):
            last = rounds == self._most_rounds
            completion = await self._ask(talk, prompt, last=last)
            if not completion.tool_calls:
                return completion
            if not last:
                results = await self._use(completion.tool_calls, effects, talk)
                if rounds + 1 == self._most_rounds:
                    results = (*results[:-1], results[-1] + LAST_ROUND)
                prompt = replace(
                    prompt, rounds=(*prompt.rounds, ToolRound(completion.text, completion.tool_calls, results))
                )
        raise NoEnd(
            f"{talk.ticket.choice} still asks for tools after {self._most_rounds} rounds of them: split the step,"
            " say in its instructions when enough is enough, or raise EXECUTOR_TOOL_ROUNDS"
        )

    async def _ask(self, talk: Talk, prompt: Prompt, *, last: bool) -> Completion[Any]:
        """A model that takes no tools does its work without them."""
        offered = () if talk.ticket.choice in self._toolless else self._toolbox.offered
        try:
            return await self._call(talk, prompt, offered, last=last)
        except ModelFailure as failure:
            is_new = bool(offered) and not prompt.rounds
            if not (is_new and failure.kind == "refused" and ABOUT_TOOLS.search(failure.message)):
                raise
            log.warning("model.takes_no_tools", model=str(talk.ticket.choice), reason=failure.message)
            self._toolless.add(talk.ticket.choice)
            return await self._call(talk, prompt, (), last=last)

    async def _call(self, talk: Talk, prompt: Prompt, tools: tuple[Tool, ...], *, last: bool) -> Completion[Any]:
        async def leave(clearance: Clearance) -> None:
            await talk.sure()
            talk.account.leaving(talk.ticket.choice, prompt, clearance)

        async def listen(piece: str) -> None:
            talk.account.heard(piece)
            await talk.tokens.feed(piece)

        if (left := talk.time_left()) <= 0:
            raise OutOfTime("the node's time was over before the model could be asked again")
        try:
            completion = await self._calls.complete(
                talk.ticket,
                prompt,
                on_token=listen,
                timeout=left,
                tools=tools,
                tools_closed=last,
                before_sending=leave,
                purse=talk.purse,
            )
        except ModelFailure as failure:
            talk.account.ended(failure, prompt)
            raise
        talk.account.ended(completion, prompt)
        await talk.tokens.flush()
        return completion

    async def _use(self, calls: tuple[ToolCall, ...], effects: count[int], talk: Talk) -> tuple[str, ...]:
        """One after the other, as the model wrote them: a later one may build on an earlier."""
        talk.account.used_tools, results = True, []
        for position, call in enumerate(calls):
            if position >= MOST_USES_AT_ONCE:
                results.append(f"error: not done: an answer may ask for {MOST_USES_AT_ONCE} uses of tools; ask again")
                continue
            await talk.sure()
            results.append(await self._toolbox.use(call, next(effects), talk.place))
        return tuple(results)
