"""The embedded NATS server: JetStream on loopback, one user per service with the permissions of the contracts."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from contracts.permissions import Permissions
from deploy.local.home import Home, explain
from deploy.local.parts import greets
from deploy.local.process import Child, program

DISK_FULL = (b"no space left on device", b"disk quota exceeded", b"file too large")
ENOUGH_SPACE_BYTES = 16 * 1024 * 1024

#: Small messages one after the other: on more cores its goroutines spend a fifth of its time on waking one another.
ONE_CORE = {"GOMAXPROCS": "1"}

CONFIGURATION = """\
server_name: {name}
listen: "127.0.0.1:{port}"
max_payload: 1MB
jetstream {{
  store_dir: {store}
  max_memory_store: 256MB
  max_file_store: 8GB
  sync_interval: "1s"
}}
accounts {{
  APP {{
    jetstream: enabled
    users: [
{users}
    ]
  }}
  SYS {{ users: [ {{ user: sys, password: {system_password} }} ] }}
}}
system_account: SYS
{cluster}"""
USER = (
    "      {{ user: {name}, password: {password}, permissions {{ publish: {{ allow: {publish} }}, "
    'subscribe: {{ allow: {subscribe} }}, allow_responses: {{ max: 1, expires: "2m" }} }} }}'
)


class Nats:
    """nats-server as our child. Its users are services, the command line and the keeper.

    `cluster` is what its configuration says of the cluster it belongs to.
    """

    def __init__(self, home: Home, users: Mapping[str, Permissions], name: str = "nats", cluster: str = "") -> None:
        self.name = name
        self.directory = home.path / name
        self._home, self._users, self._cluster = home, dict(users), cluster
        self.port = home.port(name)
        self.configuration = self.directory / "nats.conf"
        self._log_read, self._complaint = 0, ""
        log, env = home.log_file(name), ONE_CORE | os.environ
        self.child = Child(name, [program("nats-server"), "-c", self.configuration], log, env=env)

    @property
    def store(self) -> Path:
        return self.directory / "jetstream"

    def launch(self) -> None:
        self.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._home.write_private(self.configuration, self._render())
        log = self.child.log
        self._log_read, self._complaint = log.stat().st_size if log and log.exists() else 0, ""
        self.child.launch()

    def answers(self) -> bool:
        # The client port opens after JetStream has recovered its streams, and the server speaks first.
        return greets(self.port, b"INFO ")

    def complaint(self) -> str:
        """A stream that once could not be written refuses everything from then on, even when there is space again."""
        log = self.child.log
        if log is None or not log.exists() or log.stat().st_size <= self._log_read:
            return self._complaint
        with log.open("rb") as stream:
            stream.seek(self._log_read)
            said = stream.read()
        self._log_read += len(said)
        if any(words in said for words in DISK_FULL):
            self._complaint = explain(OSError(errno.ENOSPC, ""), self.store)
        return self._complaint

    def curable(self) -> bool:
        return shutil.disk_usage(self.store).free > ENOUGH_SPACE_BYTES

    def url(self, user: str) -> str:
        return f"nats://{user}:{self._password(user)}@127.0.0.1:{self.port}"

    def _password(self, user: str) -> str:
        return self._home.secret(f"nats-{user}")

    def _render(self) -> str:
        users = "\n".join(
            USER.format(
                name=json.dumps(name),
                password=json.dumps(self._password(name)),
                publish=json.dumps(allowed.publish),
                subscribe=json.dumps(allowed.subscribe),
            )
            for name, allowed in self._users.items()
        )
        return CONFIGURATION.format(
            name=json.dumps(self.name),
            cluster=self._cluster,
            port=self.port,
            store=json.dumps(str(self.store)),
            users=users,
            system_password=json.dumps(self._password("sys")),
        )
