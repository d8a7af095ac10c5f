"""What others wrote is shown, and commands nobody's terminal."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Group
from rich.text import Text

from chassis.printable import json_text
from fluidcrew.progress import RunView
from fluidcrew.render import words
from fluidcrew.render.attempts import diff
from fluidcrew.render.facts import fact_line
from fluidcrew.render.reviews import held_block, reviews_table
from fluidcrew.render.run import headline, markdown
from fluidcrew.render.screen import Screen
from fluidcrew.render.tables import runs_table

START = datetime(2025, 3, 1, 12, 0, 0, tzinfo=UTC)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *what: Any) -> str:
    """All that a terminal would get, as it gets it."""
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    screen = Screen(file=stream, force_terminal=True, color_system="truecolor", width=100, highlight=False)
    for renderable in what:
        screen.print(renderable)
    return stream.getvalue()


ORDERS = "\x1b]52;c;c3RvbGVu\x07 \x1b[2J \x9b2J \x9d0;me\x9c \x1b]8;;http://other\x1b\\\\ \x08\x7f\r"
HELD = dict.fromkeys(("node_id", "key", "run_id", "run_title", "title", "status", "role", "output_preview"), ORDERS)
HELD |= {"attempt": 1, "since": START.isoformat(), "descendants": [ORDERS], "verdict": {"critique": ORDERS, "score": 1}}
OURS = re.compile(r"\x1b\[[0-9;]*m")


@pytest.mark.parametrize(
    "what",
    [
        lambda: Text(f"a {ORDERS} b"),
        lambda: f"a {ORDERS} b",
        lambda: runs_table([{"id": "1", "title": ORDERS, "status": "running", "created_at": START.isoformat()}]),
        lambda: headline(RunView("r", ORDERS, "failed", error=ORDERS)),
        lambda: markdown(f"# {ORDERS}\n\n`{ORDERS}` &#27;]52;c;&#155;\n\n```python\n{ORDERS}\n```\n"),
        lambda: fact_line(START, "c", "run", "failed", "r", {"title": ORDERS, "reason": ORDERS}),
        lambda: reviews_table([HELD]),
        lambda: Group(*held_block(HELD)),
        lambda: diff(f"+{ORDERS}"),
    ],
)
def test_what_others_wrote_gives_the_terminal_no_orders(monkeypatch: pytest.MonkeyPatch, what: Any) -> None:
    raw = on_a_terminal(monkeypatch, what())
    assert "\x1b[" in on_a_terminal(monkeypatch, Text("x", style="red")), "ours pass"
    assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", OURS.sub("", raw)) == []


def test_a_line_and_json_for_people_give_the_terminal_no_orders() -> None:
    for text in (words.one_line(ORDERS), words.person(ORDERS), json_text({"title": ORDERS}, indent=2)):
        assert re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text) == []
    assert json.loads(json_text({"title": ORDERS})) == {"title": ORDERS}, "and machines lose nothing"
    assert json_text({"title": "Größe"}) == '{"title": "Größe"}'
