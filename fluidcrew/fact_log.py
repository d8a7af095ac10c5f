"""The facts of every run on the console of `up`: off the bus as `tail` has them, as short lines or as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from chassis.printable import json_text
from contracts.permissions import CLI
from contracts.refs import DEFAULT_COMPANY
from contracts.subjects import Subject
from fluidcrew.bus import connected
from fluidcrew.listening import address_of, body_of
from fluidcrew.progress import FINAL, moment
from fluidcrew.render.facts import fact_line
from fluidcrew.render.screen import painted
from fluidcrew.since import Since
from fluidcrew.tailing import Received, Tail

SOURCE = "facts"
MOST_PER_SECOND = 40  # lines: nobody reads faster, and a stack that is busy has better things to do
MOST_REMEMBERED = 10_000
UNTOLD = frozenset({"company", "output_preview"})  # long, or said beside it

Log = Callable[[str, str], None]  # source, line


class FactLog:
    """What is more than a console can show is counted; in JSON everything is told."""

    def __init__(self, log: Log, *, as_json: bool) -> None:
        self._log, self._as_json = log, as_json
        self._told, self._left_out = 0, 0
        self._began: dict[str, datetime] = {}  # by run

    async def follow(self, url: str, since: datetime) -> None:
        """Until it is cancelled. Nothing that goes wrong here may end the stack: it is said, and the stack goes on."""
        try:
            async with connected(url, CLI) as nc:
                tail = Tail(nc, "EVENTS", ["evt.>"], Since(at=since))
                await tail.start()
                async for received in tail.read():
                    self.tell(received)
        except Exception as error:  # noqa: BLE001 - whatever it was
            self._log("stack", f"warning: what runs do is not shown here ({error}); `fluidcrew tail` may say why")

    def tell(self, received: Received) -> None:
        address = address_of(received.subject)
        if address is None:
            return
        if self._as_json:
            self._log(SOURCE, as_json(address, received))
        elif self._has_room():
            self._log(SOURCE, painted(self._line(address, received)))

    def _line(self, address: Subject, received: Received) -> Any:
        at, told = moment(received.headers.get("ce-time")) or received.at, body_of(received.data)
        company = "" if address.company == DEFAULT_COMPANY else address.company
        if address.entity == "run":
            told = self._with_duration(address, at, told)
        return fact_line(at, company, address.entity, address.verb, address.id, told)

    def _with_duration(self, address: Subject, at: datetime, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """A run's facts do not say how long it took."""
        if address.verb == "started" and len(self._began) < MOST_REMEMBERED:
            self._began.setdefault(address.id, at)
        began = self._began.pop(address.id, None) if address.verb in FINAL else None
        return told if began is None else {**told, "duration_ms": (at - began).total_seconds() * 1000}

    def _has_room(self) -> bool:
        if self._told == 0:
            asyncio.get_running_loop().call_later(1.0, self._next_second)
        self._told += 1
        self._left_out += self._told > MOST_PER_SECOND
        return self._told <= MOST_PER_SECOND

    def _next_second(self) -> None:
        if self._left_out:
            self._log(SOURCE, f"… and {self._left_out:,} more in this second; `fluidcrew tail` shows all")
        self._told = self._left_out = 0


def as_json(address: Subject, received: Received) -> str:
    """Shaped like the lines that services log."""
    told = {k: v for k, v in body_of(received.data).items() if k not in UNTOLD}
    at = received.headers.get("ce-time") or received.at.isoformat()
    about = {"timestamp": at, "level": "info", "service": address.owner, "event": f"{address.entity}.{address.verb}"}
    return json_text(about | {"company": address.company, "story": address.id} | told)
