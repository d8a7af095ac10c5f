"""Where to look at a stack: addresses, files and commands."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from deploy.local.environment import DEFAULT_PREVIEW_PORT, port_of


def places(api_url: str, key: str, home: Path, environ: Mapping[str, str]) -> list[tuple[str, str]]:
    return [
        ("API", f"{api_url}  (X-API-Key: {shown_key(key)})"),
        ("API docs", f"{api_url}/docs"),
        (
            "previews",
            f"http://localhost:{port_of(environ, 'PREVIEW_PORT', DEFAULT_PREVIEW_PORT)}  (each at a host of its own)",
        ),
        ("events", f"{command()} tail"),
        ("logs", str(home / "logs")),
    ]


def after_run(api_url: str, key: str, run_id: str, home: Path) -> list[tuple[str, str]]:
    return [
        ("API docs", f"{api_url}/docs"),
        ("this run", f"curl -H 'X-API-Key: {shown_key(key)}' {api_url}/runs/{run_id}"),
        ("in words", f"{command()} show {run_id[:8]}"),
        ("its events", f"{command()} tail --run {run_id} --since 1h"),
        ("another", f'{command()} run "Write a market study" --watch'),
        ("logs", str(home / "logs")),
    ]


def command() -> str:
    """As it must be typed here: the virtual environment need not be active."""
    company = os.environ.get("FLUIDCREW_COMPANY", "").strip()
    whose = f"FLUIDCREW_COMPANY={company} " if company else ""
    return whose + ("fluidcrew" if shutil.which("fluidcrew") else ".venv/bin/fluidcrew")


def shown_key(key: str) -> str:
    """A key of the user's own is not printed: terminals are shown to others, and logged."""
    return key if key == "test-key" else "$API_KEY"
