"""Where is something found? Each path stands for the default company, and once more under every company's own."""

from __future__ import annotations

from contracts.refs import DEFAULT_COMPANY


def place(company: str, path: str) -> str:
    return path if company == DEFAULT_COMPANY else f"/companies/{company}{path}"
