"""An executor as it is, but for one thing: a node sleeps where it would call its model. python -m bench.waiting"""

from __future__ import annotations

import asyncio
import os
from unittest.mock import patch

from bench.ours import WAIT_SECONDS
from chassis.service import run
from services.executor import app
from services.executor.domain.facts import Succeeded
from services.executor.engine.inbox import Report
from services.executor.engine.runner import Runner, Work
from services.executor.settings import ExecutorSettings


class Sleeper(Runner):
    async def perform(self, work: Work) -> Report:
        await asyncio.sleep(float(os.environ[WAIT_SECONDS]))
        return Report(work.run.id, Succeeded(work.attempt.node.key, work.attempt.number))


if __name__ == "__main__":
    with patch.object(app, "Runner", Sleeper):
        run("executor", ExecutorSettings, app.build)
