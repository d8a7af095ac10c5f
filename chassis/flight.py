"""A batch on its way to the broker: which of its messages have an answer, and which were refused."""

from __future__ import annotations

import time

from chassis.outbox import Batch, OutboxRow


class Flight:
    """`compared` says how often the stream had been compared with the outbox at the start."""

    def __init__(self, batch: Batch, compared: int) -> None:
        self.batch = batch
        self.compared = compared
        self.began = time.monotonic()
        self.left = len(batch.rows)  # without an answer
        self.accepted = 0
        self.refused: list[OutboxRow] = []
        self.first = self.last = 0  # places in the stream

    def accept(self, sequence: int) -> None:
        self.left -= 1
        self.accepted += 1
        self.first = min(self.first or sequence, sequence)
        self.last = max(self.last, sequence)

    def refuse(self, n: int) -> None:
        self.left -= 1
        self.refused.append(self.batch.rows[n])
