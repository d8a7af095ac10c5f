"""What is written down of a call that another service made for an attempt?"""

from __future__ import annotations

from decimal import Decimal

from contracts.budgets import Purchase, Took

#: An attempt's own calls are numbered when it ends, from 1, and reviews after them; purchases are known before that.
LAST_OF_ITS_OWN = 1_000


def to_book(purchase: Purchase, amount: Decimal | None, took: Took | None) -> Took | None:
    """None when it was not made. `amount` None: nobody could say what it came to, so it was charged in full."""
    if took is not None:
        return took
    return None if amount == 0 else purchase.at_most
