"""What a request that must be refused is put into."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contracts.errors import Code, Rejection


@asynccontextmanager
async def refused(code: Code) -> AsyncIterator[pytest.ExceptionInfo[Rejection]]:
    with pytest.raises(Rejection) as caught:
        yield caught
    assert caught.value.failure.code is code
