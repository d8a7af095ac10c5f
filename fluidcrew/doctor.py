"""Looks whether this machine can run Fluidcrew: the preflight, the installed binaries and the external servers."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from chassis import roles
from deploy.local.environment import value_of
from deploy.local.postgres import installation
from deploy.local.process import StartFailed
from fluidcrew.check import Check
from fluidcrew.preflight import guarded, preflight
from fluidcrew.reachable import TIMEOUT_SECONDS, refusal


def run_checks(environ: Mapping[str, str] | None = None, *, starting: bool = True) -> list[Check]:
    """Everything: what `preflight` sees, then the installed binaries and the external servers."""
    env = os.environ if environ is None else environ
    checks = preflight(env, starting=starting, installing=False)
    for check in (binaries, external_nats, external_postgres, external_s3):
        checks += guarded(check, env)
    return checks


def binaries(environ: Mapping[str, str]) -> list[Check]:
    """The embedded parts that no URL replaces, by the versions they print."""
    checks = []
    if not value_of(environ, "NATS_URL"):
        checks.append(_version("nats-server", [str(Path(sys.executable).parent / "nats-server"), "--version"]))
    if not environ.get("S3_ENDPOINT_URL"):
        rclone = [str(Path(sys.executable).parent / "rclone"), "version", "--check=false", "--config", os.devnull]
        checks.append(_version("rclone", rclone))  # without that it makes a directory for its configuration
    if not value_of(environ, "DATABASE_URL"):
        try:
            checks.append(_version("postgres", [str(installation() / "bin" / "postgres"), "--version"]))
        except StartFailed as error:
            checks.append(Check("postgres", False, str(error), "run `make setup`"))
    return checks


def _version(name: str, command: list[str]) -> Check:
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, False, f"does not run ({error})", "run `make setup`")
    said = (done.stdout.decode(errors="replace").strip().splitlines() or [""])[0]
    return Check(name, done.returncode == 0, said, "run `make setup` again: the installation is incomplete")


def external_nats(environ: Mapping[str, str]) -> list[Check]:
    """A NATS server says what it is before anybody logs in."""
    url = value_of(environ, "NATS_URL")
    if not url:
        return []
    parts = urlsplit(url.split(",")[0])
    try:
        with socket.create_connection(
            (parts.hostname or "127.0.0.1", parts.port or 4222), TIMEOUT_SECONDS
        ) as connection:
            info = json.loads(connection.makefile("rb").readline().split(b" ", 1)[1])
    except (OSError, ValueError, IndexError) as error:
        return [
            Check(
                "NATS",
                False,
                f"no server at {parts.hostname}:{parts.port or 4222} ({error})",
                "start it, or correct NATS_URL",
            )
        ]
    version = str(info.get("version", "0"))
    new = tuple(int(n) for n in version.split("-", maxsplit=1)[0].split(".")[:2]) >= (2, 10)
    return [
        Check(
            "NATS",
            new,
            f"{version} (2.10 or newer is needed)",
            "update the server, or unset NATS_URL for the embedded one",
        ),
        Check("JetStream", bool(info.get("jetstream")), "on that server", "enable jetstream in its configuration"),
    ]


async def _described(url: str) -> roles.Server:
    async with asyncio.timeout(10):
        return await roles.describe_server(url)


def external_postgres(environ: Mapping[str, str]) -> list[Check]:
    url = value_of(environ, "DATABASE_URL")
    if not url:
        return []
    try:
        facts = asyncio.run(_described(url))
    except Exception as error:  # noqa: BLE001 - refused, unknown host, wrong password, no such database: all are findings
        return [
            Check("Postgres", False, f"cannot connect ({str(error) or type(error).__name__})", "correct DATABASE_URL")
        ]
    vector = facts.vector or "missing"
    return [
        Check(
            "Postgres", facts.major >= 16, f"{facts.major} (16 or newer is needed)", "update it, or unset DATABASE_URL"
        ),
        Check(
            "pgvector",
            facts.has_vector,
            f"{vector} (0.8 or newer is needed)",
            "install the extension there",
            fatal=False,
        ),
        Check(
            "roles",
            facts.may_create_roles,
            "one per service",
            "grant CREATEROLE; without, services share one",
            fatal=False,
        ),
    ]


def external_s3(environ: Mapping[str, str]) -> list[Check]:
    url = environ.get("S3_ENDPOINT_URL", "")
    if not url:
        return []
    if not url.startswith(("http://", "https://")):
        return [Check("S3", False, "S3_ENDPOINT_URL is no http URL", "give one like http://127.0.0.1:9000")]
    problem = refusal(url, {})
    reachable = problem is None or "key" in problem  # without a signature it has to refuse us
    return [Check("S3", reachable, problem or "answers", "start it, or correct S3_ENDPOINT_URL")]
