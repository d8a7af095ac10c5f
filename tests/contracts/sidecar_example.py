"""A sidecar of version 1.0, as the predecessor's documentation shows it."""

from __future__ import annotations

from typing import Any

EXAMPLE: dict[str, Any] = {
    "version": "1.0",
    "provider": "openai",
    "model": "gpt-4o",
    "latency_ms": 1200,
    "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30},
    "cost": {"estimated": 0.12},
    "prompts": {"system": "Vous êtes un assistant IA.", "user": "Bonjour"},
    "timestamps": {"started_at": "2024-05-21T10:00:00Z", "ended_at": "2024-05-21T10:00:01Z"},
    "run_id": "123e4567-e89b-42d3-a456-426614174000",
    "node_id": "123e4567-e89b-42d3-a456-426614174001",
}
