-- Tasks that the planner has deleted: what they delivered is served no more and goes, also what comes later.
create table deleted_tasks (
    company_id text not null,
    task_id uuid not null,
    deleted_at timestamptz not null default clock_timestamp(),
    primary key (company_id, task_id)
);
