"""The choices and the prompt that most tests of the model layer use."""

from __future__ import annotations

from chassis.llm.call import ModelChoice, Prompt

OPENAI = ModelChoice("openai", "gpt-4o-mini")
OLLAMA = ModelChoice("ollama", "llama3.1:8b")
ANTHROPIC = ModelChoice("anthropic", "claude-haiku-4-5")
DEMO = ModelChoice("demo", "demo-1")
HELLO = Prompt("You are terse.", "Say hello.")
