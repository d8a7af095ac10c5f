"""The runtime that computes the local model, loaded so that it tells nobody of it."""

from __future__ import annotations

import os
from typing import Any


def load_runtime() -> Any:
    """Merely imported, it keeps an id of this machine in the user's cache and reports to its maker. Raises ImportError."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # looked at once, while it is imported: its own function comes too late
    import onnxruntime

    return onnxruntime
