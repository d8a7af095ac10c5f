"""Stands in for a service: says what it was given, answers /health as the gateway, drains as slowly as it is told."""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import time
from types import FrameType


class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        state = "degraded" if os.environ.get("FAKE_BROKEN") else "ok"
        self.wfile.write(json.dumps({"status": state}).encode())

    def log_message(self, *_: object) -> None:
        pass


def drain(number: int, _: FrameType | None) -> None:
    print("draining", flush=True)
    time.sleep(float(os.environ.get("FAKE_DRAIN_SECONDS", "0")))
    print("drained", flush=True)
    os._exit(0)


def main(name: str) -> None:
    if name == os.environ.get("FAKE_BROKEN"):
        sys.exit("PLANNER_POOL: not a number")
    signal.signal(signal.SIGTERM, drain)
    print(f"{name} is pid {os.getpid()}", flush=True)
    if name == "gateway":
        http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health).serve_forever()
    while True:
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
