"""Waiting in tests: for a condition, never for an amount of time."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    condition: Callable[[], T | Awaitable[T]], timeout: float = 60.0, interval: float = 0.02, what: str = ""
) -> T:
    """The first truthy result of `condition`, which may be async and may fail meanwhile; else AssertionError."""
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        last: object
        try:
            result = condition()
            value = await result if inspect.isawaitable(result) else result
            if value:
                return value  # type: ignore[return-value]
            last = value
        except Exception as error:
            last = error
        if asyncio.get_running_loop().time() > deadline:
            raise AssertionError(
                f"{what or inspect.getsource(condition).strip()} did not hold in {timeout} s; last: {last!r}"
            )
        await asyncio.sleep(interval)
