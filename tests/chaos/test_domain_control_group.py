"""The control group: every protection is there to be taken out, and each is missed by a rule that there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.chaos.check import RULES
from tests.chaos.control_group import MUTATIONS, NOTHING
from tests.chaos.mutants import PROTECTIONS

TAKE_ALL_OUT = "from tests.chaos.mutants import PROTECTIONS\nfor take_out in PROTECTIONS.values(): take_out()"


def test_every_protection_is_taken_out_by_one_member_and_missed_by_some_rule() -> None:
    members = (NOTHING, *MUTATIONS)
    assert sorted(m.without for m in members if m.services) == sorted(PROTECTIONS)
    assert all(m.sql for m in members if not m.services)
    assert {rule for m in members for rule in m.by} <= {rule.__name__ for rule in RULES}
    assert all(m.by for m in MUTATIONS)


def test_what_is_to_be_taken_out_is_still_where_it_was() -> None:
    """In a process of its own: nothing is put back."""
    command, root = [sys.executable, "-c", TAKE_ALL_OUT], Path(__file__).parents[2]
    taken = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert taken.returncode == 0, taken.stderr
