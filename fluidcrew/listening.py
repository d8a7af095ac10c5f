"""What `tail` prints: the facts of a stream from some point on and, if wanted, the tokens as models produce them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nats.aio.client import Client
from rich.text import Text

from chassis.printable import json_text
from contracts.permissions import CLI
from contracts.subjects import BadSubject, Subject, parse
from fluidcrew.bus import connected
from fluidcrew.client import Gateway
from fluidcrew.ending import canceled_by_signals, end_if_canceled
from fluidcrew.exits import Exit, Halt
from fluidcrew.filters import facts_filter, stream_of, tokens_filter
from fluidcrew.naming import UUID_PATTERN
from fluidcrew.progress import moment
from fluidcrew.render.facts import fact_line
from fluidcrew.render.screen import Screen, console
from fluidcrew.render.tokens import TokenLines
from fluidcrew.running import resolved
from fluidcrew.since import Since
from fluidcrew.surroundings import bus_url
from fluidcrew.tailing import Received, Tail

IDLE_SECONDS = 1.0  # after which a line of tokens that nobody ended is shown


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to hear. Empty texts mean everything."""

    company: str = ""
    run: str = ""
    subject: str = ""
    since: Since | None = None
    tokens: bool = False

    def subjects(self) -> list[str]:
        live = [tokens_filter(self.company, self.run)] if self.tokens else []
        return [facts_filter(self.subject, self.company, self.run), *live]


async def listen(wish: Wish, *, as_json: bool) -> None:
    """A run may be named by how its id begins: the API knows the rest."""
    with canceled_by_signals():
        if wish.run and not UUID_PATTERN.fullmatch(wish.run):
            async with Gateway.of(os.environ) as api:
                wish = replace(wish, run=await resolved(api, wish.run))
        await Listening(wish.subjects(), wish.since, as_json=as_json).run()


class Listening:
    def __init__(self, subjects: list[str], since: Since | None, *, as_json: bool) -> None:
        self._subjects, self._since, self._as_json = subjects, since, as_json
        self._screen: Screen = console()
        self._tokens = TokenLines()
        self._denied: asyncio.Future[str] | None = None

    async def run(self) -> None:
        """Until it is interrupted. Raises Halt when the bus refuses what was asked for."""
        self._denied = asyncio.get_running_loop().create_future()
        async with connected(bus_url(os.environ, CLI), CLI, self._on_error) as nc, asyncio.TaskGroup() as together:
            together.create_task(self._halt_when(self._denied))
            for subject in self._subjects:
                together.create_task(self._follow(nc, subject))

    async def _halt_when(self, denied: asyncio.Future[str]) -> None:
        reason = await denied
        hint = "; `fluidcrew dlq list` shows dead letters" if any(s.startswith("dlq.") for s in self._subjects) else ""
        raise Halt(Exit.REFUSED, f"the bus does not let its user `{CLI}` listen there ({reason}){hint}")

    async def _on_error(self, error: Exception) -> None:
        said = str(error)
        if "permissions violation" in said.lower() and self._denied is not None and not self._denied.done():
            self._denied.set_result(said.removeprefix("nats: ").strip("'"))

    async def _follow(self, nc: Client, subject: str) -> None:
        stream = stream_of(subject)
        if stream is None:
            await self._overhear(nc, subject)
            return
        tail = Tail(nc, stream, [subject], self._since)
        await tail.start()
        async for received in tail.read():
            self._tell(received.subject, received.headers, received.data, received)

    async def _overhear(self, nc: Client, subject: str) -> None:
        """What is not stored: whoever is late has missed it."""
        async for subject_of_message, data in live_messages(nc, subject):
            if data is None:
                self._print(*self._tokens.flush())
            elif self._as_json or ".node.token." not in subject_of_message:
                self._tell(subject_of_message, {}, data, None)
            else:
                self._print(*self._tokens.add(body_of(data)))

    def _tell(self, subject: str, headers: Mapping[str, str], data: bytes, received: Received | None) -> None:
        if self._as_json:
            print(json_text(as_record(subject, headers, data, received)), flush=True)
        else:
            self._print(line_of(subject, headers, data, received))

    def _print(self, *lines: Text) -> None:
        for line in lines:
            self._screen.print(line, soft_wrap=True)


async def live_messages(nc: Client, subject: str) -> AsyncIterator[tuple[str, bytes | None]]:
    """Messages as they come; None when nothing has come for a moment."""
    subscription = await nc.subscribe(subject)
    while True:
        try:
            message = await subscription.next_msg(timeout=IDLE_SECONDS)
            end_if_canceled()
        except TimeoutError:
            yield subject, None
            continue
        yield message.subject, message.data


def line_of(subject: str, headers: Mapping[str, str], data: bytes, received: Received | None) -> Text:
    at = moment(headers.get("ce-time")) or (received.at if received else None)
    told, address = body_of(data), address_of(subject)
    if address is None:
        return fact_line(at, subject, "unreadable", "", "", {"error": data[:100].decode("utf-8", "replace")})
    if not address.id:
        return fact_line(
            at, "", str(address.kind), address.entity, headers.get("ce-id", ""), {"error": headers.get("x-reason", "")}
        )
    if "x-claim" in headers:
        told = {"reason": "its body is in the object store"}
    return fact_line(at, address.company, address.entity, address.verb, address.id, told)


def as_record(subject: str, headers: Mapping[str, str], data: bytes, received: Received | None) -> dict[str, Any]:
    record: dict[str, Any] = {"subject": subject}
    if received is not None:
        record |= {"sequence": received.sequence, "stored_at": received.at.isoformat()}
    try:
        body = json.loads(data)
    except ValueError:
        body = data.decode("utf-8", "replace")
    return record | {"headers": dict(headers), "data": body}


def body_of(data: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def address_of(subject: str) -> Subject | None:
    try:
        return parse(subject)
    except BadSubject:
        return None
