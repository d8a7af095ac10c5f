"""Health over HTTP: `/livez` (the loop ticks), `/readyz` (what the service stands on answers), `/metrics`."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable

import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from chassis.settings import BadSettings

log = structlog.get_logger(__name__)

Check = Callable[[], Awaitable[None]]
PATIENCE = 2.0  # seconds per check


class Health:
    """Checks by name; a check raises when its part is not well."""

    def __init__(self, age_of_loop: Callable[[], float]) -> None:
        self.began = time.monotonic()
        self.draining = False
        self._age_of_loop = age_of_loop
        self._checks: dict[str, Check] = {}
        self.listening: socket.socket | None = None

    def add(self, name: str, check: Check) -> None:
        self._checks[name] = check

    @property
    def uptime(self) -> float:
        return time.monotonic() - self.began

    def alive(self) -> bool:
        return self._age_of_loop() < 5.0

    async def failures(self) -> dict[str, str]:
        """The checks that fail, with the reason; empty when ready."""
        if self.draining:
            return {"service": "draining"}
        results = await asyncio.gather(*(self._one(check) for check in self._checks.values()))
        return {name: reason for name, reason in zip(self._checks, results, strict=True) if reason}

    async def _one(self, check: Check) -> str:
        try:
            async with asyncio.timeout(PATIENCE):
                await check()
        except TimeoutError:
            return f"no answer within {PATIENCE:g} s"
        except Exception as error:  # noqa: BLE001 – whatever it is, the part is not well, and that is the answer
            return f"{type(error).__name__}: {error}"[:300]
        return ""

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:  # type: ignore[type-arg]
        """The three routes as a plain ASGI application, for services without HTTP of their own."""
        if scope["type"] != "http":
            return
        status, kind, body = await self._answer(scope["path"])
        headers = [(b"content-type", kind.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str) -> tuple[int, str, bytes]:
        if path == "/livez":
            return (200, "text/plain", b"ok\n") if self.alive() else (503, "text/plain", b"the event loop is late\n")
        if path == "/readyz":
            failures = await self.failures()
            lines = "".join(f"{name}: {reason}\n" for name, reason in failures.items()) or "ok\n"
            return (503 if failures else 200), "text/plain", lines.encode()
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
        return 404, "text/plain", b"livez, readyz, metrics\n"

    def listen(self, host: str, port: int) -> None:
        """Before anything else is started: a taken port is found out by who starts the service. Raises BadSettings."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self.listening = socket.create_server((host, port), family=family)
        except OSError as error:
            advice = "give each service on a machine its own, as <SERVICE>_HEALTH_PORT, or 0 for any that is free"
            raise BadSettings(f"HEALTH_PORT: cannot listen on {host}:{port} ({error.strerror}); {advice}") from error

    async def serve(self, stop: asyncio.Event) -> None:
        """Answer at the address that we listen on, until told to stop. Raises RuntimeError when it ends before."""
        assert self.listening is not None, "listen() comes first"
        host, port = self.listening.getsockname()[:2]
        log.info("health.served", host=host, port=port)
        server = uvicorn.Server(uvicorn.Config(self, log_level="warning", lifespan="off", access_log=False))
        # not serve(): signals are the service's business
        serving = asyncio.create_task(server._serve(sockets=[self.listening]), name="health.http")
        told = asyncio.create_task(stop.wait(), name="health.told")
        await asyncio.wait([serving, told], return_when=asyncio.FIRST_COMPLETED)
        if not told.done():
            told.cancel()
            await serving
            raise RuntimeError("the server of health ended by itself")
        server.should_exit = True
        await serving
