"""`demo`: from nothing to a finished run, every step shown and timed."""

from __future__ import annotations

import os
from typing import Annotated

import typer


def demo(
    keep_up: Annotated[
        bool, typer.Option("--keep-up", help="Leave the stack running afterwards, until Ctrl-C.")
    ] = False,
) -> int:
    """Start the stack, let a crew plan and write something, show every step, stop. Uses a stack that already runs."""
    import asyncio

    from fluidcrew.demonstration import Demonstration

    return asyncio.run(Demonstration(os.environ, keep_up=keep_up).run())
