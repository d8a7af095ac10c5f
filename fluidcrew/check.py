"""One finding about this machine, and how to put right what is wrong; stdlib only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """One finding. `fatal` ones keep the stack from working; the others are for the reader to weigh."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    fatal: bool = True

    def line(self) -> str:
        mark = "ok     " if self.ok else "FAILED " if self.fatal else "warning"
        return f"{mark} {self.name}: {self.detail}" + (f" -> {self.fix}" if self.fix and not self.ok else "")


def failed(checks: list[Check]) -> bool:
    return any(c.fatal and not c.ok for c in checks)
