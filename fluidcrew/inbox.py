"""The inbox on a terminal: shows what waits for a person's verdict, one after the other, and does what they decide."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.text import Text

from fluidcrew import reviewing
from fluidcrew.client import Gateway
from fluidcrew.exits import Exit, Halt
from fluidcrew.render.attempts import attempts_block
from fluidcrew.render.reviews import NOTHING_WAITS, held_block, reviews_table
from fluidcrew.render.screen import Screen

Ask = Callable[[str], str]  # raises EOFError when there is nobody any more
Held = Mapping[str, Any]
#: whole words only: a key hit by accident must not let a result count
CHOICES = {
    "accept": "let it count",
    "reject": "what depends on it waits",
    "rerun": "another attempt, with your instructions",
    "skip": "go on without it",
    "output": "all of it",
    "attempts": "compared",
    "next": "decide later",
    "quit": "leave",
}
QUIT = "quit"


class Left(Exception):
    """They have had enough."""


@dataclass
class Inbox:
    """Between two questions nothing is open: an API that restarts meanwhile is found again, and Ctrl-C ends it at once."""

    screen: Screen
    ask: Ask
    run: str = ""
    last: bool = False

    def open(self) -> int:
        try:
            while held := self._call(lambda api: reviewing.waiting(api, self.run, last=self.last))["items"]:
                self.screen.print(reviews_table(held, numbered=True))
                if (node := self._chosen(held)) is not None:
                    self._decide(node)
            self.screen.say(Text(NOTHING_WAITS, style="bright_black"))
        except (Left, EOFError):
            return Exit.OK
        return Exit.OK

    def _chosen(self, held: list[Held]) -> Held | None:
        """None to look again."""
        answer = self._answer(f"which one? 1–{len(held)}, Enter looks again, quit leaves: ")
        if not answer:
            return None
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(held):
            return held[int(answer) - 1]
        self._say(f"{answer!r} is none of 1 to {len(held)}, and not quit")
        return None

    def _decide(self, node: Held) -> None:
        """Until something has been done, or they go back."""
        for part in held_block(node):
            self.screen.print(part)
        self._say(" · ".join(f"{word}: {meaning}" for word, meaning in CHOICES.items()))
        done = False
        while not done:
            choice = self._answer("accept, reject, rerun, skip, output, attempts, next or quit? ").lower()
            if choice == "next":
                return
            if choice not in CHOICES:
                self._say(f"{choice!r} is none of {', '.join(CHOICES)}: nothing was done, write the whole word")
                continue
            try:
                done = self._do(choice, node)
            except Halt as halt:  # such as somebody else's verdict: said, and shown anew
                self._say(str(halt), *halt.more)
                done = True

    def _do(self, choice: str, node: Held) -> bool:
        """Whether the node has been dealt with."""
        doing = {"accept": self._accept, "reject": self._reject, "rerun": self._again, "skip": self._skip}
        showing = {"output": self._output, "attempts": self._attempts}
        (doing | showing)[choice](node)
        return choice in doing

    def _accept(self, node: Held) -> None:
        self._judge(node, reviewing.BEST)

    def _reject(self, node: Held) -> None:
        self._judge(node, reviewing.WORST)

    def _judge(self, node: Held, score: int) -> None:
        score = self._score(score)
        comment = self._answer("comment, or Enter: ") or None
        seen = reviewing.in_force(node)
        given = self._call(lambda api: reviewing.give(api, node, score, comment, seen))
        self._say(f"{node['key']}: {reviewing.given_words(given)}")

    def _score(self, usual: int) -> int:
        while (said := self._answer(f"score 0–100, Enter is {usual}: ")) != "":
            if said.isascii() and said.isdecimal() and int(said) <= reviewing.BEST:
                return int(said)
            self._say(f"{said!r} is no whole number from 0 to 100")
        return usual

    def _again(self, node: Held) -> None:
        body = {
            "instructions": self._answer("what should it do better? "),
            "prompt": self._answer("a new prompt, or Enter to keep its own: "),
        }
        answer = self._call(lambda api: reviewing.again(api, str(node["node_id"]), body))
        self._say(f"{node['key']}: {reviewing.again_words(answer)}")

    def _skip(self, node: Held) -> None:
        self._call(lambda api: reviewing.leave_out(api, str(node["node_id"])))
        self._say(f"{node['key']}: skip requested")

    def _output(self, node: Held) -> None:
        found = self._call(lambda api: api.get(f"/nodes/{node['node_id']}"))
        self.screen.print(Text(str(found.get("output") or "it has none")))

    def _attempts(self, node: Held) -> None:
        found = self._call(lambda api: api.get(f"/nodes/{node['node_id']}/attempts"))
        for part in attempts_block(found, everything=True):
            self.screen.print(part)

    def _answer(self, question: str) -> str:
        answer = self.ask(question).strip()
        if answer.lower() == QUIT:
            raise Left
        return answer

    def _say(self, *lines: str) -> None:
        for line in lines:
            self.screen.say(Text(line))

    def _call(self, what: Callable[[Gateway], Awaitable[Any]]) -> Any:
        async def ask_the_api() -> Any:
            async with Gateway.of(os.environ) as api:
                return await what(api)

        return asyncio.run(ask_the_api())
