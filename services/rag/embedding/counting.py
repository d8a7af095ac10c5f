"""How many tokens a text takes of what a model can be given at once: counted by the local model's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from services.rag.domain.chunking import Window
from services.rag.embedding.published import NoModel, tokenizer_file

WINDOW = 256  # tokens, as the model was trained
LOCAL = "local"
BYTES_OF_A_REMOTE_WINDOW = 8_000  # no more tokens than bytes, and these models take 8,000


def window_of(provider: str) -> Window:
    """What its models take at once; without the local one, what it would take by and large."""
    if provider != LOCAL:
        return Window(BYTES_OF_A_REMOTE_WINDOW, lambda texts: [len(text.encode()) for text in texts])
    try:
        return local_window()
    except NoModel:
        return Window(250, lambda texts: [len(text) // 3 for text in texts])


@cache
def local_window() -> Window:
    """Raises NoModel."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise NoModel(f"{error.name} is not installed; run `make setup`") from None

    tokenizer = Tokenizer.from_file(str(tokenizer_file()))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(one) for one in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    return Window(WINDOW - 2, count)  # one before every text, one behind it
