"""With which code the command line ends, and the one exception that carries a line for the reader and that code."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Documented in `fluidcrew --help` and docs/command-line.md; scripts rely on them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_READY = 69
    INTERNAL = 70
    SETTINGS = 78
    INTERRUPTED = 130


MEANING = {
    Exit.OK: "done",
    Exit.FAILED: "the run failed or was canceled; `bus verify` found differences, `validate` a sidecar that is KO",
    Exit.USAGE: "the command line is wrong, or the file it names",
    Exit.UNREACHABLE: "the API or the bus cannot be reached, or cannot answer now (5xx)",
    Exit.REFUSED: "the API refused the request (4xx)",
    Exit.NOT_READY: "this machine cannot run the stack: a check failed, or a part did not start",
    Exit.INTERNAL: "a bug of ours; FLUIDCREW_DEBUG=1 shows where",
    Exit.SETTINGS: "the environment or .env holds something wrong",
    Exit.INTERRUPTED: "interrupted (Ctrl-C)",
}


class Halt(Exception):
    """The command cannot go on. The message is one line that says what to do; `more` are lines of detail below it."""

    def __init__(self, code: Exit, message: str, more: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.more = more


def table() -> list[tuple[int, str]]:
    return [(int(code), meaning) for code, meaning in MEANING.items()]
