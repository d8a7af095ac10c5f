"""`doctor`: whether this machine can run the stack."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fluidcrew.exits import Exit, Halt

if TYPE_CHECKING:
    from fluidcrew.check import Check


def doctor() -> int:
    """Look whether this machine can run Fluidcrew; each thing that is wrong comes with its fix."""
    from fluidcrew.check import failed
    from fluidcrew.doctor import run_checks
    from fluidcrew.render.checks import check_lines
    from fluidcrew.render.screen import console
    from fluidcrew.surroundings import running_stack_of

    running = running_stack_of(os.environ)
    checks = run_checks(os.environ, starting=running is None)
    screen = console()
    for line in check_lines(checks):
        screen.print(line, soft_wrap=True)
    if running:
        screen.print(f"a stack runs in {running.home} (pid {running.pid}), API at {running.api_url}", soft_wrap=True)
    return Exit.NOT_READY if failed(checks) else Exit.OK


def require_ready(*, starting: bool) -> list[Check]:
    """The same checks before something is started. Raises Halt naming each failure and its fix."""
    from fluidcrew.doctor import run_checks

    checks = run_checks(os.environ, starting=starting)
    wrong = [c for c in checks if c.fatal and not c.ok]
    if wrong:
        lines = tuple(f"{c.name}: {c.detail}" + (f" -> {c.fix}" if c.fix else "") for c in wrong)
        if len(lines) == 1:
            raise Halt(Exit.NOT_READY, f"this machine is not ready: {lines[0]}")
        raise Halt(Exit.NOT_READY, "this machine is not ready:", lines)
    return checks
