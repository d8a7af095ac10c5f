"""The worker's side: no-op tasks, acknowledged after their result is stored."""

from __future__ import annotations

import os
import time
from typing import Any

from celery import Celery

url = os.environ["BENCH_REDIS_URL"]
app = Celery("bench", broker=url, backend=url)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    result_expires=600,
    broker_connection_retry_on_startup=True,
    worker_send_task_events=False,
)


@app.task  # type: ignore[untyped-decorator]
def node(earlier: Any, wait: float) -> dict[str, Any]:
    if wait:
        time.sleep(wait)
    return {"ok": True}


@app.task  # type: ignore[untyped-decorator]
def join(results: list[Any], wait: float) -> dict[str, Any]:
    if wait:
        time.sleep(wait)
    return {"joined": len(results), "ended_at": time.time()}
