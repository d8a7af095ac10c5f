"""`.env.example` names every variable that something reads, and nothing else; its values are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

from scripts.environment import SETTINGS, variables

EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"
LINE = re.compile(r"^(?:# ?)?([A-Z][A-Z0-9_]*)=(\S*)", re.MULTILINE)
PRESETS = {"LLM_DEFAULT_PROVIDER", "LLM_DEFAULT_MODEL", "API_KEY"}  # shown as choices, not as defaults


def test_every_variable_is_there_and_nothing_else() -> None:
    assert {name for name, _ in LINE.findall(EXAMPLE.read_text())} == variables()


def test_the_values_shown_are_the_defaults() -> None:
    shown = {name: value for name, value in LINE.findall(EXAMPLE.read_text()) if value and name not in PRESETS}
    for settings in SETTINGS:
        for field, name in settings.variables().items():
            if name in shown:
                given = settings.model_validate({**_needed(settings), field: shown[name]})
                assert getattr(given, field) == settings.model_fields[field].get_default(call_default_factory=True), (
                    name
                )


def _needed(settings: type) -> dict[str, str]:
    return {"nats_url": "nats://x", "database_url": "postgresql://x"} if "nats_url" in settings.model_fields else {}
