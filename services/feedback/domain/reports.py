"""What do the verdicts on a run's nodes come to?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from contracts.feedback import NodeQuality, QaReport
from contracts.verdict import Decision


def report(run_id: UUID, nodes: Sequence[NodeQuality], human_reviews: int) -> QaReport:
    scores = [node.score for node in nodes if node.score is not None]
    decisions = Counter(node.decision for node in nodes)
    failed = Counter(name for node in nodes for name in node.failed_criteria)
    return QaReport(
        run_id=run_id,
        nodes=list(nodes),
        average_score=round(sum(scores) / len(scores), 2) if scores else None,
        accepted=decisions[Decision.ACCEPT],
        revised=decisions[Decision.REVISE],
        rejected=decisions[Decision.REJECT],
        critical=sum(node.critical for node in nodes),
        reviews=sum(node.reviews for node in nodes),
        human_reviews=human_reviews,
        failed_criteria=dict(failed.most_common()),
    )
