"""Nothing of ours grows past what one reads in a sitting: the hard limits of the house, for files and functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("contracts", "chassis", "services", "fluidcrew", "deploy", "scripts", "bench", "orchestrator")
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 400, 50


def too_long(path: Path) -> Iterator[str]:
    text = path.read_text()
    if (lines := len(text.splitlines())) > LINES_OF_A_FILE:
        yield f"{path.name} has {lines} lines; split it along its ideas"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LINES_OF_A_FUNCTION:
                yield f"{path.name}:{node.name} has {lines} lines"


def test_no_file_and_no_function_is_past_the_hard_limit() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    assert len(files) > 200
    assert [complaint for path in files for complaint in too_long(path)] == []


def test_what_is_too_long_is_named(tmp_path: Path) -> None:
    long = tmp_path / "long.py"
    long.write_text("def endless():\n" + "    pass\n" * 50 + "x = 1\n" * 350)
    assert list(too_long(long)) == [
        "long.py has 401 lines; split it along its ideas",
        "long.py:endless has 51 lines",
    ]
