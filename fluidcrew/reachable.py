"""Whether the default provider of language models answers; stdlib only."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlsplit

from deploy.local.environment import value_of
from fluidcrew.check import Check

TIMEOUT_SECONDS = 2.0
PROVIDERS = {
    "openai": ("OPENAI_BASE_URL", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": ("ANTHROPIC_BASE_URL", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "ollama": ("OLLAMA_BASE_URL", "http://127.0.0.1:11434/v1", ""),
}


def provider(environ: Mapping[str, str]) -> list[Check]:
    """Whether the default provider answers on its list of models; any answer but a refused key will do."""
    name = (environ.get("LLM_DEFAULT_PROVIDER") or "demo").strip().lower()
    if name == "demo":
        return [Check("provider", True, "demo (simulated answers; set LLM_DEFAULT_PROVIDER for real ones)")]
    if name not in PROVIDERS:
        fix = f"set LLM_DEFAULT_PROVIDER to demo, {', '.join(PROVIDERS)}"
        return [Check("provider", False, f"LLM_DEFAULT_PROVIDER={name!r} is unknown", fix)]
    variable, default, key_name = PROVIDERS[name]
    base = (environ.get(variable) or default).rstrip("/")
    key = value_of(environ, key_name) if key_name else ""
    if not base.startswith(("http://", "https://")):
        return [Check("provider", False, f"{variable} is no http URL", "give one like http://127.0.0.1:11434/v1")]
    if key_name and not key and base == default:
        return [Check("provider", False, f"{name} has no key", f"set {key_name} in .env (make init-env), or use demo")]
    url = f"{base}/v1/models" if name == "anthropic" else f"{base}/models"
    problem = refusal(
        url, {"Authorization": f"Bearer {key}", "x-api-key": key, "anthropic-version": "2023-06-01"} if key else {}
    )
    if problem is None:
        return [Check("provider", True, f"{name} answers")]
    fix = f"set {key_name}" if "key" in problem else f"start it, or correct {variable}"
    return [Check("provider", False, f"{name} at {_without_credentials(base)} {problem}", fix, fatal=False)]


def refusal(url: str, headers: Mapping[str, str]) -> str | None:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - the callers know it is http
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        return f"refuses the key ({error.code})" if error.code in (401, 403) else None
    except (OSError, ValueError) as error:
        return f"is not reachable ({getattr(error, 'reason', error)})"


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
