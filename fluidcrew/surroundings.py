"""Where the API and the bus are: the environment first, then what a running stack wrote into its data directory."""

from __future__ import annotations

import getpass
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.environment import CHECKOUT, DEFAULT_PORT, home_of, load_dotenv, port_of, replicas_of, value_of
from deploy.local.home import is_held
from fluidcrew.exits import Exit, Halt

DEFAULT_KEY = "test-key"


def load_environment() -> None:
    """The same `.env` that make reads, whatever directory the command is called in; the real environment wins."""
    load_dotenv(CHECKOUT / ".env", os.environ)


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What the supervisor that holds a data directory has published about itself."""

    home: Path
    pid: int
    facts: Mapping[str, Any]

    @property
    def api_url(self) -> str:
        return str(self.facts["api_url"])


def running_stack_of(environ: Mapping[str, str]) -> RunningStack | None:
    """None when nobody holds the data directory, whatever file an earlier stack may have left there."""
    home = home_of(environ)
    try:
        facts = json.loads((home / "stack.json").read_text(encoding="utf-8"))
        found = RunningStack(home, int(facts["pid"]), facts)
        os.kill(found.pid, 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_held(home) else None  # the pid may be somebody else's by now


def api_url(environ: Mapping[str, str]) -> str:
    if given := environ.get("FLUIDCREW_URL", "").rstrip("/"):
        parts = urlsplit(given)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise Halt(Exit.SETTINGS, f"FLUIDCREW_URL={given!r} is no address; write it like http://127.0.0.1:8000")
        return given
    running = None if environ.get("PORT") else running_stack_of(environ)
    return running.api_url if running else f"http://127.0.0.1:{port_of(environ, 'PORT', DEFAULT_PORT)}"


def api_key(environ: Mapping[str, str]) -> str:
    return value_of(environ, "API_KEY") or DEFAULT_KEY


def company(environ: Mapping[str, str]) -> str:
    """Empty for the default one."""
    if not (named := environ.get("FLUIDCREW_COMPANY", "").strip()):
        return ""
    from contracts.refs import SLUG_PATTERN  # pydantic is slow to come, and help needs none

    if not re.fullmatch(SLUG_PATTERN, named):
        raise Halt(
            Exit.SETTINGS,
            f"{named[:50]!r} is no id of a company: give lower-case letters, digits and hyphens, 39 at most",
        )
    return named


def login_name() -> str:
    """Under which orders are noted; what a header cannot carry is left out."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as containers have them
        name = f"uid {os.getuid()}"
    return "".join(ch for ch in name if ch.isascii() and ch.isprintable()).strip()[:50] or "somebody"


def bus_url(environ: Mapping[str, str], user: str) -> str:
    """As `user` of the bus: `cli` reads every fact, `keeper` may change streams."""
    for name in (f"{user.upper()}_NATS_URL", "NATS_URL"):
        if given := value_of(environ, name):
            return given
    running = running_stack_of(environ)
    found = running.facts.get("nats_url" if user == "cli" else f"nats_{user}_url") if running else None
    if not found:
        raise Halt(
            Exit.UNREACHABLE, f"no stack runs in {home_of(environ)}: start one with `fluidcrew up`, or set NATS_URL"
        )
    return str(found)


def bus_replicas(environ: Mapping[str, str]) -> int:
    """How many servers keep each message: as the environment says, else as the running stack was started."""
    running = None if environ.get("NATS_REPLICAS") else running_stack_of(environ)
    return int(running.facts.get("nats_replicas", 1)) if running else replicas_of(environ)


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
