"""`python -m deploy.cluster`: the fleet on one machine, staying up until Ctrl-C. Its data is apart from `make up`'s."""

from __future__ import annotations

import asyncio
import os

from deploy.cluster.stack import ClusterStack
from deploy.local.console import console_log
from deploy.local.environment import CHECKOUT, home_of, load_dotenv
from deploy.local.supervisor import Interrupted, existing_services, running_stack

EACH = 2


async def main() -> None:
    load_dotenv(CHECKOUT / ".env", os.environ)
    home, log = home_of(os.environ) / "cluster", console_log(as_json=os.environ.get("LOG_FORMAT") == "json")
    scale = dict.fromkeys(existing_services(), EACH)
    try:
        async with running_stack(home, scale, environ=os.environ, log=log, stack_of=ClusterStack) as running:
            log("stack", f"{running.api_url}; three NATS servers, {EACH} of each service; Ctrl-C stops everything")
            await running.for_ever()
    except Interrupted:
        log("stack", "stopped")


if __name__ == "__main__":
    asyncio.run(main())
