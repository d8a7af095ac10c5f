"""A confined process' own side: the limits it sets before it looks at anything, and the one answer it gives.

Nothing but the standard library: what works on strangers' bytes may have nothing else.
"""

from __future__ import annotations

import errno
import json
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

OVER, NO_ROOM = "over", "no_room"  # the words of an answer that are ours; all others are the worker's


class Limit(StrEnum):
    TIME = "time"
    MEMORY = "memory"
    SIZE = "size"  # of a file it writes


class Limits(NamedTuple):
    """What it may use, and nothing lifts it again."""

    memory: int  # bytes of address space
    cpu: int  # seconds
    wall: int  # seconds
    written: int  # bytes of one file
    files: int  # open at once

    def apply(self) -> None:
        for what, most in self._of_the_kernel():
            resource.setrlimit(what, most)
        signal.alarm(self.wall)  # ends it, parent or not

    def _of_the_kernel(self) -> Iterator[tuple[int, tuple[int, int]]]:
        yield resource.RLIMIT_CPU, (self.cpu, self.cpu + 1)  # apart: at the first it is told why it ends
        yield resource.RLIMIT_FSIZE, (self.written, self.written)
        yield resource.RLIMIT_NOFILE, (self.files, self.files)
        yield resource.RLIMIT_NPROC, (0, 0)
        yield resource.RLIMIT_CORE, (0, 0)
        if sys.platform == "linux":  # elsewhere it cannot be set
            yield resource.RLIMIT_AS, (self.memory, self.memory)


def answer(limits: Limits, work: Callable[[], Mapping[str, object]]) -> None:
    """Says what came of the work, or what it had too little of. Any other error is a crash, and its traceback is told."""
    limits.apply()
    said: Mapping[str, object]
    try:
        said = work()
    except MemoryError:
        said = {OVER: Limit.MEMORY}
    except OSError as error:
        if error.errno == errno.EFBIG:
            said = {OVER: Limit.SIZE}
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = {NO_ROOM: error.strerror}
        else:
            raise
    sys.stdout.write(json.dumps(said))
