-- What people want of tasks, which tasks wait for which, and what the executor has been told.

alter table tasks
    add column pause_requested boolean not null default false,
    add column control_asked_at timestamptz,            -- when a flag was last touched, and by whom
    add column control_asked_by text,
    add column control_job_id uuid,                     -- the latest job that carries an order to the runs
    add column order_id uuid,                           -- the latest order that concerns runs, under its command id
    add column order_action text,
    add column order_mode text,
    add column order_by text,
    add column auto_start boolean not null default false,   -- until it was started
    add column launch jsonb,                            -- the terms of the run it was created for
    add column waiting boolean not null default false,  -- it has not been told yet that everything it waits for is done
    add column job_type text,
    add column payload jsonb not null default '{}',
    add column assignee text,
    add column priority int not null default 0,
    add constraint a_task_is_paused_or_canceled_not_both check (not (pause_requested and cancel_requested)),
    add constraint an_order_to_runs_is_pause_resume_or_cancel check (order_action in ('pause', 'resume', 'cancel')),
    add constraint an_order_is_whole
        check ((order_id is null) = (order_action is null) and (order_id is null) = (order_mode is null)),
    add constraint only_a_launched_task_starts_by_itself check (not auto_start or launch is not null);

-- So far the flag said that the latest run had been canceled; from now on it is what a person has asked of the task.
update tasks set cancel_requested = false where cancel_requested;

-- What is being planned right now and was to be started then.
update tasks t set auto_start = true, launch = j.payload->'terms'
from jobs j where j.id = t.job_id and j.state in ('queued', 'running') and jsonb_typeof(j.payload->'terms') = 'object'
    and t.run_id is null;

create index tasks_by_control_job on tasks (control_job_id) where control_job_id is not null;
create index tasks_to_start on tasks (updated_at) where auto_start and deleted_at is null;
create index tasks_to_release on tasks (updated_at) where waiting and deleted_at is null;

create table task_dependencies (
    task_id uuid not null references tasks,
    depends_on uuid not null references tasks,
    company_id text not null,
    created_at timestamptz not null default clock_timestamp(),
    primary key (task_id, depends_on),
    constraint a_task_does_not_wait_for_itself check (task_id <> depends_on)
);
create index dependents_of_a_task on task_dependencies (depends_on);

alter table task_runs
    add column told_order uuid,                         -- the task's latest order that the executor has for this run
    add column heard_at timestamptz not null default clock_timestamp(),  -- of the executor, or what it said when asked
    add column retries uuid,                            -- the ended run that this one was asked for to follow
    add column fresh boolean not null default false;    -- without taking over its results
create index runs_under_way on task_runs (heard_at) where state in ('asked', 'accepted', 'running', 'paused');
