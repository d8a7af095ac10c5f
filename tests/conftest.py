"""Registers the fixtures of the real servers for every test, and how tests are shared among workers."""

from __future__ import annotations

import os
import signal
import subprocess
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import settings

from chassis import garbage

settings.register_profile("house", deadline=None)  # no test is timed: it would fail where the machine is busy
settings.load_profile("house")

pytest_plugins = ["chassis.testing.plugin"]


def pytest_configure() -> None:
    """Ctrl-C works in what tests start, even where we are a background job that a shell started without it. A traceback is
    plain: to draw one with rich takes the event loop longer than most of what goes on there."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Once, before the workers are started: somebody may commit while they collect, and they must agree.
    half = str(_commits() % 2)
    os.environ.setdefault("CHAOS_HALF", half)
    os.environ.setdefault("CHAOS_SEED", _git("rev-parse", "--short=8", "HEAD") or "0")
    if os.environ.get("TEST_HALF") == "auto":
        os.environ["TEST_HALF"] = half


def pytest_collection_finish() -> None:
    garbage.spare_what_is_there()


#: tests that start, kill and wait for whole processes: `make test` plays one half of them, and at the next commit the other
DEAR = (
    "tests/system/",
    "tests/local/test_cluster.py",
    "tests/local/test_up.py",
    "tests/publisher/test_publishing.py",
    "tests/publisher/test_resilience.py",
    "tests/feedback/test_resilience.py",
    "tests/feedback/test_surprises.py",
    "tests/feedback/test_with_executor.py",
    "tests/rag/test_ingesting.py",
    "tests/rag/test_models_of_spaces.py",
    "tests/executor/test_ownership.py",
    "tests/executor/test_refusals.py",
    "tests/executor/test_settling.py",
)
ALWAYS = ("tests/system/test_main_path.py", "tests/system/test_demo.py", "tests/system/test_sidecars.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """TEST_HALF=auto (by the number of commits), 0 or 1; unset, or all: every test that was asked for."""
    half = os.environ.get("TEST_HALF") or "all"
    if half == "all":
        return
    if half not in ("0", "1"):
        raise pytest.UsageError(f"TEST_HALF={half!r}: expected auto, 0, 1 or all")
    left_out = list(_of_the_other_half(items, int(half)))
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _of_the_other_half(items: Iterable[pytest.Item], half: int) -> Iterable[pytest.Item]:
    for item in items:
        dear = item.nodeid.startswith(DEAR) and not item.nodeid.startswith(ALWAYS)
        if dear and zlib.crc32(item.nodeid.encode()) % 2 != half:
            yield item


def _commits() -> int:
    return int(_git("rev-list", "--count", "--first-parent", "HEAD") or 0)


def _git(*command: str) -> str:
    """Nothing without git, or without a history of this checkout."""
    try:
        found = subprocess.run(
            ["git", *command], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: Any, log: Any) -> Any:
    from tests.system.stacks import scheduler

    return scheduler(config, log)
