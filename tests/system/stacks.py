"""Which tests share which stack: a calm one, a rough one whose parts are killed, and that of the chaos program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
ROUGH = frozenset({"test_killed", "test_lost", "test_outages", "test_replicas"})
CALM = frozenset(
    {
        "test_bad_input",
        "test_budgets",
        "test_commands",
        "test_control",
        "test_deliverables",
        "test_main_path",
        "test_providers",
        "test_reviews",
        "test_schemathesis",
        "test_sidecars",
        "test_steering",
        "test_streams",
        "test_tracing",
    }
)
CHAOS = HERE.parent / "chaos" / "test_chaos.py"
#: what they make once per module is dear, and every worker would make it again
TOGETHER = frozenset({HERE / "test_isolation.py", HERE.parent / "local" / "test_setup.py"})


def stack_of(file: Path) -> str:
    """Empty for tests that use none."""
    if file.resolve() == CHAOS:
        return "chaos"
    if file.resolve().parent != HERE:
        return ""
    return "rough" if file.stem in ROUGH else "calm" if file.stem in CALM else ""


class StackScheduling(LoadScopeScheduling):
    """Like xdist's `load`, but tests of one stack or of a module in TOGETHER stay on one worker.

    `--dist loadgroup` was made for this; pytest 9.2 no longer reads the `_nodeid` it writes.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = Path(self.config.rootpath, nodeid.split("::", 1)[0])
        return stack_of(file) or (file.stem if file.resolve() in TOGETHER else nodeid)


def scheduler(config: Any, log: Any) -> StackScheduling | None:
    """None leaves it to xdist, when somebody asks for another distribution."""
    return StackScheduling(config, log) if config.getvalue("dist") in ("load", "worksteal") else None
