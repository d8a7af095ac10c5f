"""What goes wrong is told: a handler's bug reaches Sentry with its tags, and the metrics count it by pattern."""

from __future__ import annotations

import gzip
import http.server
import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest
import sentry_sdk
from prometheus_client import REGISTRY

from chassis.context import Context
from chassis.service import Chassis
from chassis.testing.eventually import eventually
from contracts import executor
from contracts.errors import Rejection
from tests.chassis.conftest import Start, nothing


@pytest.fixture
def sentry() -> Iterator[tuple[str, list[str]]]:
    """A DSN of a server on loopback, and what it was told."""
    told: list[str] = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            told.append((gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://key@127.0.0.1:{server.server_port}/1", told
    server.shutdown()
    sentry_sdk.init()  # back to no DSN


async def test_a_bug_in_a_handler_reaches_sentry_and_the_metrics(
    start: Start, sentry: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    dsn, told = sentry
    monkeypatch.setenv("SENTRY_DSN", dsn)

    async def build(chassis: Chassis) -> None:
        async def broken(request: executor.ControlRun, context: Context) -> executor.RunControlled:
            raise ZeroDivisionError("a very particular bug")

        chassis.bus.serve(executor.ControlRun, broken)

    labels = {"pattern": executor.ControlRun.subject(), "outcome": "failed"}
    before = REGISTRY.get_sample_value("bus_handled_total", labels) or 0.0
    async with start("executor", build), start("planner", nothing) as caller:
        order = executor.ControlRun(command_id=uuid4(), run_id=uuid4(), action=executor.RunAction.PAUSE)
        with pytest.raises(Rejection, match="its log has the cause"):
            await caller.bus.ask(order, Context(request_id="req-77"))
        sentry_sdk.flush(5)
        report = await eventually(lambda: next((t for t in told if "a very particular bug" in t), None))
    assert "rpc.executor.run.control" in report
    assert "req-77" in report
    assert REGISTRY.get_sample_value("bus_handled_total", labels) == before + 1
