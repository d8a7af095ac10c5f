"""Feedback owns what reviews and people say of results, which verdict on an attempt is in force, and what that makes of it.

Accepts: rpc.feedback.feedback.* (give, list, get), rpc.feedback.policy.* (list, get, set, remove),
    rpc.feedback.report.* (qa, quality).
Emits: feedback.feedback.given, feedback.feedback.critical, feedback.verdict.given, feedback.policy.changed.
Consumes: executor.node.reviewing, each of which becomes a job: code checks first, then a model that is not the author.
Never: moves a node, holds an output longer than a review takes, or calls anyone inside a transaction.
"""
