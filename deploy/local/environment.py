"""Reads the environment, `.env` and `NAME_FILE` secrets; stdlib only, since the setup needs it before installing."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
DEFAULT_PORT = 8000
DEFAULT_PREVIEW_PORT = 8001
#: what services listen on: the variable of the port, its default, and the variable of the address
LISTENING = (("PORT", DEFAULT_PORT, "GATEWAY_HOST"), ("PREVIEW_PORT", DEFAULT_PREVIEW_PORT, "PREVIEW_HOST"))


class BadEnvironment(Exception):
    """The environment or `.env` cannot be used as it is; the message says what to change."""


def load_dotenv(path: Path, environ: MutableMapping[str, str]) -> None:
    """Adds the variables of a `.env` file that the real environment does not set."""
    if not path.is_file():
        return
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, value = _assignment(line, f"{path.name}:{number}")
        if name and value and not environ.get(name) and not environ.get(f"{name}_FILE"):
            environ[name] = value


def _assignment(line: str, where: str) -> tuple[str, str]:
    text = line.strip()
    if not text or text.startswith("#"):
        return "", ""
    name, equals, value = text.partition("=")
    name = (name.removeprefix("export ")).strip()
    if not equals or not name.isidentifier():
        raise BadEnvironment(f"{where}: expected NAME=value, found {text[:40]!r}")
    value = value.strip()
    if value[:1] in ("'", '"'):
        closing = value.find(value[0], 1)
        if closing < 0:
            raise BadEnvironment(f"{where}: the quote that {name} opens is never closed")
        return name, value[1:closing]
    return name, value.split(" #", 1)[0].rstrip() if not value.startswith("#") else ""


def value_of(environ: Mapping[str, str], name: str) -> str:
    """The value of NAME, or the content of the file that NAME_FILE points to; empty when neither is set."""
    value, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if not file:
        return value
    if value:
        raise BadEnvironment(f"{name} and {name}_FILE are both set; unset one of them")
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadEnvironment(
            f"{name}_FILE: cannot read {file} ({error.strerror}); correct the path or its rights"
        ) from error


def port_of(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise BadEnvironment(f"{name}={text!r} is no port; give a number from 1 to 65535")
    return int(text)


def home_of(environ: Mapping[str, str]) -> Path:
    """The data directory: FLUIDCREW_HOME, or `.fluidcrew` in the checkout."""
    return Path(environ.get("FLUIDCREW_HOME") or CHECKOUT / ".fluidcrew").expanduser().absolute()


def replicas_of(environ: Mapping[str, str]) -> int:
    """How many servers of the bus keep each message: NATS_REPLICAS, 1 unless the bus is a cluster."""
    text = environ.get("NATS_REPLICAS") or "1"
    if text not in ("1", "3", "5"):
        raise BadEnvironment(f"NATS_REPLICAS={text!r}: give 1, or 3 or 5 for a cluster of at least so many servers")
    return int(text)
