"""With what the services of a test's stack are started."""

from __future__ import annotations

import json

API_KEY = "test-key"
DATABASE, BUCKET = "fluidcrew", "fluidcrew"
CONCURRENCY = 6
RUNNING = ("planner", "executor", "feedback", "publisher", "rag", "gateway")
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "PYTHONPATH")
#: leases and patience are short, so that a death is noticed within the time a test can wait
DEFAULTS = {
    "ENV": "test",
    "API_KEY": API_KEY,
    "METRICS_ENABLED": "1",
    "LOG_FORMAT": "console",
    "PYTHONUNBUFFERED": "1",
    "LLM_DEFAULT_PROVIDER": "openai",
    "LLM_DEFAULT_MODEL": "fake-1",
    "LLM_PRICES": json.dumps({"fake-1": {"input": 1, "output": 2}}),
    "OPENAI_API_KEY": "sk-test",
    "OLLAMA_BASE_URL": "http://127.0.0.1:9/v1",  # nobody is there
    "EXECUTOR_LEASE_S": "2",
    "EXECUTOR_POLL_S": "0.5",
    "EXECUTOR_CONCURRENCY": str(CONCURRENCY),
    "EXECUTOR_DEFAULT_GATE": "off",  # who tests reviews says so
    "GATEWAY_GAP_PATIENCE": "5",
    "PLANNER_DRAFT_ATTEMPTS": "2",
}
