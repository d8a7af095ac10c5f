"""Which moves may a preview make? None from its end: what failed is sent again, as another version."""

from __future__ import annotations

from collections.abc import Mapping

from contracts.previews import PreviewState

RECEIVED, PUBLISHING, READY, FAILED = PreviewState

LEGAL: Mapping[PreviewState, frozenset[PreviewState]] = {
    RECEIVED: frozenset({PUBLISHING}),
    PUBLISHING: frozenset({READY, FAILED}),
    READY: frozenset(),
    FAILED: frozenset(),
}
FINAL = frozenset(state for state, moves in LEGAL.items() if not moves)
