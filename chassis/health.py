"""Health over HTTP: `/livez` (the loop ticks), `/readyz` (what the service stands on answers), `/metrics`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], Awaitable[None]]
PATIENCE = 2.0  # seconds per check


class Health:
    """Checks by name; a check raises when its part is not well."""

    def __init__(self, age_of_loop: Callable[[], float]) -> None:
        self.began = time.monotonic()
        self.draining = False
        self._age_of_loop = age_of_loop
        self._checks: dict[str, Check] = {}

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

    async def serve(self, port: int, stop: asyncio.Event) -> None:
        """Serve on loopback until told to stop."""
        config = uvicorn.Config(
            self, host="127.0.0.1", port=port, log_level="warning", lifespan="off", access_log=False
        )
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        serving = asyncio.create_task(server._serve(), name="health.http")
        await stop.wait()
        server.should_exit = True
        await serving
