"""What the reading process may use: set by itself before it looks at a document, and nothing lifts it again."""

from __future__ import annotations

import resource
import signal
import sys

MEMORY = 1024 * 1024 * 1024  # bytes of address space
CPU = 60  # seconds
WALL = 90  # seconds
WRITTEN = 64 * 1024 * 1024  # bytes
FILES = 32  # open at once

LIMITS = {
    resource.RLIMIT_CPU: (CPU, CPU + 1),  # apart: at the first it is told why it ends
    resource.RLIMIT_FSIZE: (WRITTEN, WRITTEN),
    resource.RLIMIT_NOFILE: (FILES, FILES),
    resource.RLIMIT_NPROC: (0, 0),
    resource.RLIMIT_CORE: (0, 0),
} | ({resource.RLIMIT_AS: (MEMORY, MEMORY)} if sys.platform == "linux" else {})  # elsewhere it cannot be set


def apply() -> None:
    for what, most in LIMITS.items():
        resource.setrlimit(what, most)
    signal.alarm(WALL)  # ends it, parent or not
