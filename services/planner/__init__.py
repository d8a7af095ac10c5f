"""The planner owns companies, projects, tasks, their plans with versions, and who is assigned to which node.

Accepts: rpc.planner.task.* (create, launch, get, list, update, delete, start), rpc.planner.plan.* (draft, create, get,
    versions, version, diff, assign, auto_assign, validate).
Emits: planner.task.* (created, updated, deleted, ready, started, resumed, paused, completed, failed) and
    planner.plan.* (drafted, rejected, validated, assigned).
Consumes: executor.run.* to show each task the state of its latest run.
Never: executes a node, judges whether a run may be active, or calls anyone inside a transaction.
"""
