"""HTTP connections as uvicorn keeps them, with an end to the patience: for who never finishes asking, or does not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ASKING = 30.0  # seconds from a request's first byte, or the connection, to the end of its headers
READING = 60.0  # seconds in which a reader who is waited for must take something
LONGEST_HEAD = 64 * 1024  # bytes of a request before its body


class Timer:
    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None

    @property
    def runs(self) -> bool:
        return self._handle is not None

    def start(self, seconds: float, over: Callable[..., None], *arguments: Any) -> None:
        self.end()
        self._handle = asyncio.get_running_loop().call_later(seconds, over, *arguments)

    def end(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class Connection(HttpToolsProtocol):
    """For `uvicorn.Config(http=…)`. Without it headers have no end, and who reads nothing is waited for for ever."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._asking, self._reading = Timer(), Timer()
        self._head = 0
        self._wrong: str | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        self._asking.end()
        self._reading.end()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._asking.runs:
            self._begin()

    def on_headers_complete(self) -> None:
        self._asking.end()
        if sum(name == b"host" for name, _ in self.headers) > 1:
            self._wrong = "There is more than one Host header; send one."
            raise ValueError(self._wrong)  # the parser goes no further, and says 400
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        super().send_400_response(self._wrong or msg)

    def _begin(self) -> None:
        self._head = 0
        self._asking.start(ASKING, self._has_not_asked)

    def _has_not_asked(self) -> None:
        """Who waits for the answer to an earlier request may take their time with the next one."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._begin()
        else:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asking.runs and not self.transport.is_closing():
            self._head += len(data)
            if self._head > LONGEST_HEAD:
                self.send_400_response(f"The head of the request has more than {LONGEST_HEAD} bytes; make it shorter.")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_less_than(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        self._reading.end()
        super().resume_writing()

    def _expect_less_than(self, waiting: int) -> None:
        self._reading.start(READING, self._has_not_read, waiting)

    def _has_not_read(self, before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        if waiting < before:
            self._expect_less_than(waiting)
        else:
            self.transport.abort()
