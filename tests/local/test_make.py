"""What the Makefile itself does before any of our programs runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.environment import CHECKOUT
from fluidcrew.setup_env import STAMP
from fluidcrew.steps import began

DATES = {"gnu": 'exec /bin/date "$@"', "bsd": "echo 1700000000.N"}  # what a BSD's date makes of %s.%N


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def make(*arguments: str, cwd: Path = CHECKOUT, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "FLUIDCREW_BEGAN")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=cwd, env=clean | environ, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", DATES)
def test_the_demo_knows_when_enter_was_pressed_to_the_millisecond(tmp_path: Path, kind: str) -> None:
    script(tmp_path / "path" / "date", DATES[kind])
    script(tmp_path / "venv" / "fluidcrew", "echo $FLUIDCREW_BEGAN")
    python = script(tmp_path / "python", f'case "$1" in -c) exec {sys.executable} "$@";; esac')  # there is no setup
    before = time.time()
    path = f"{tmp_path / 'path'}:{os.environ['PATH']}"
    done = make("demo", f"VENV={tmp_path / 'venv'}", f"PYTHON={python}", PATH=path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip().partition(".")[2]) >= 3
    assert before <= float(done.stdout) <= time.time()


def test_a_start_that_makes_no_sense_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUIDCREW_BEGAN", "1700000000.25")
    assert began() == 1700000000.25
    for odd in ("1700000000.N", "soon", "1.2.3"):
        monkeypatch.setenv("FLUIDCREW_BEGAN", odd)
        assert 0 <= time.time() - began() < 3600, "then it is the start of this process"


def test_the_doctor_of_a_fresh_checkout_downloads_and_starts_nothing(tmp_path: Path) -> None:
    for name in ("deploy", "fluidcrew"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    done = make("doctor", f"PYTHON={sys.executable}", cwd=tmp_path, LLM_DEFAULT_PROVIDER="oracle")
    assert done.returncode != 0
    assert (
        "FAILED  provider: LLM_DEFAULT_PROVIDER='oracle' is unknown -> set LLM_DEFAULT_PROVIDER to demo" in done.stdout
    )
    assert "nothing is installed yet" in done.stdout
    assert not (tmp_path / ".venv").exists()
    assert not (tmp_path / ".fluidcrew").exists()


def test_the_doctor_of_an_installed_checkout_is_the_one_that_looks_at_everything(tmp_path: Path) -> None:
    shutil.copy(CHECKOUT / "Makefile", tmp_path)
    script(tmp_path / ".venv" / "bin" / "fluidcrew", 'echo "installed: $1"')
    (tmp_path / ".venv" / STAMP.name).write_text("{}")
    done = make("doctor", f"PYTHON={sys.executable}", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "installed: doctor\n"), done.stderr
