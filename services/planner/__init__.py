"""The planner owns companies, projects, tasks, their plans with versions, who does which node, and which tasks wait.

Accepts: rpc.planner.company.* and rpc.planner.project.* (list, create), rpc.planner.task.* (create, launch, get, list,
    update, delete, start, retry, control, depend, undepend, dependencies, dependents), rpc.planner.plan.* (draft, create,
    get, versions, version, diff, assign, auto_assign, validate).
Emits: planner.company.created, planner.project.created, planner.task.* (created, updated, deleted, ready, started, resumed,
    paused, completed, failed, canceled, retried, control_asked, dependencies_changed, released, repaired) and
    planner.plan.* (drafted, retried, rejected, validated, assigned).
Consumes: executor.run.* to show each task the state of its latest run.
Never: executes a node, judges whether a run may be active, or calls anyone inside a transaction.
"""
