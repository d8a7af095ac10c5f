"""The embedded S3 endpoint: rclone serves a directory of ours on loopback, with one generated key.

What it cannot do (conditional writes, tags, lifecycle, metadata across restarts) the object store adapter does without.
"""

from __future__ import annotations

import os

from deploy.local.home import Home
from deploy.local.parts import greets
from deploy.local.process import Child, program

ACCESS_KEY = "fluidcrew"


class S3:
    """`rclone serve s3` as our child. A bucket is a directory."""

    name = "s3"

    def __init__(self, home: Home, bucket: str) -> None:
        self.directory = home.path / "s3"
        self.bucket = bucket
        self.access_key, self.secret_key = ACCESS_KEY, home.secret("s3")
        self.port = home.port("s3")
        self.child = Child("s3", self._command(), home.log_file("s3"), env=self._environment())

    def launch(self) -> None:
        for directory in (self.directory / "data" / self.bucket, self.directory / "cache"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.child.launch()

    def answers(self) -> bool:
        return greets(self.port)

    def complaint(self) -> str:
        return ""

    def curable(self) -> bool:
        return False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        return [
            str(program("rclone")),
            *("serve", "s3", str(self.directory / "data")),
            *("--addr", f"127.0.0.1:{self.port}"),
            *("--config", os.devnull),
            *("--cache-dir", str(self.directory / "cache")),
            *("--log-level", "NOTICE"),
        ]

    def _environment(self) -> dict[str, str]:
        """The key goes by the environment: arguments are visible to every user of the machine."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("RCLONE_")}
        return inherited | {"RCLONE_AUTH_KEY": f'"{self.access_key},{self.secret_key}"'}  # read as CSV
