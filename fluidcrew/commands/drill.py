"""`drill`: kill workers, gateway and broker in the middle of a run, and see that nothing is lost."""

from __future__ import annotations

import os

from fluidcrew.commands.doctor import require_ready


def drill() -> int:
    """Run thirty nodes on a stack of its own, kill its parts on the way, and let those outside say what was lost."""
    import asyncio

    from fluidcrew.drill import Drill

    require_ready(starting=False)
    return asyncio.run(Drill(os.environ).run())
