"""Reads server-sent events off the lines of a response, as the standard's section on parsing says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field


@dataclass(slots=True)
class Message:
    """One block. `id` is None when it names none, and "" when it takes the last one back; without data `event` is ""."""

    event: str = ""
    data: str = ""
    id: str | None = None
    retry: int | None = None


@dataclass(slots=True)
class _Block:
    event: str = ""
    data: list[str] = field(default_factory=list)
    id: str | None = None
    retry: int | None = None
    empty: bool = True

    def add(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        self.empty = False
        if name == "event":
            self.event = value
        elif name == "data":
            self.data.append(value)
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value.isdecimal():
            self.retry = int(value)

    def message(self) -> Message:
        event = (self.event or "message") if self.data else ""
        return Message(event, "\n".join(self.data), self.id, self.retry)


async def messages(pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """A block that the connection cuts off before its empty line does not count."""
    block = _Block()
    async for line in _lines(pieces):
        if line.startswith(":"):
            continue
        if line:
            block.add(line)
        elif not block.empty:
            yield block.message()
            block = _Block()


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[str]:
    """Ends lines at newlines only: what a model writes may hold U+2028 and others that `splitlines` takes for one."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")
