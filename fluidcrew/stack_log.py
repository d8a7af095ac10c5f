"""What the supervisor says while something else has the screen: kept in a file, its warnings shown afterwards."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

OURS = ("stack", "keeper")  # the services' own lines go to their own files


class StackLog:
    """`log(source, line)` as the supervisor wants it. The file is made with the first line: its directory is new by then."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._stream: TextIO | None = None
        self.warnings: list[str] = []

    def __call__(self, source: str, line: str) -> None:
        if source not in OURS:
            return
        if line.startswith("warning: "):
            self.warnings.append(line.removeprefix("warning: "))
        if self._stream is None:
            self._stream = self._file.open("a", encoding="utf-8")
        self._stream.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {source} {line}\n")
        self._stream.flush()

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
