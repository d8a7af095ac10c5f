-- What people want of runs and nodes beside what is; results taken over from earlier runs; what the reconciler looks for.

alter table runs
    add column control_asked_at timestamptz,                   -- written by orders, as `wanted`
    add column control_by text,
    add column control_mode text not null default 'finish',
    add column control_effective_at timestamptz,               -- written by the owner, when what is wanted is so
    add column reopening boolean not null default false,       -- it had ended; an order that makes it go on waits for an owner
    add column reuses_run_id uuid,
    add column stalled_at timestamptz,                         -- when people were last told that nothing happens
    add constraint control_mode_is_known check (control_mode in ('finish', 'interrupt'));

alter table nodes
    add column pause_reasons text[] not null default '{}',     -- it moves when this is empty
    add column waits int not null default 0,                   -- attempts that ended with the provider asking for patience
    add column control_asked_at timestamptz,                   -- of the latest order to it, written by orders
    add column control_by text,
    add column reused_from uuid,                               -- the node of an earlier run whose result this is
    add constraint paused_node_has_a_reason check (status <> 'paused' or cardinality(pause_reasons) > 0),
    add constraint node_waits_are_sound check (waits >= 0);

-- What a node had produced before it ran again. The latest attempt's output is the node's.
alter table attempts
    add column output text,
    add column output_ref jsonb,
    add column output_size bigint,
    add column checksum text;

-- Large results are shared by content: before one is deleted, others that name it must be found.
create index nodes_of_a_blob on nodes ((output_ref->>'key')) where output_ref is not null;
create index attempts_of_a_blob on attempts ((output_ref->>'key')) where output_ref is not null;

-- A run that is about to be reopened holds its task already.
drop index one_active_run_per_task;
create unique index one_active_run_per_task on runs (company_id, task_id)
    where task_id is not null and (status in ('queued', 'running', 'paused') or reopening);

create index runs_asleep on runs (id)
    where owner is null and wake_at is null and status in ('queued', 'running', 'paused');
create index runs_under_way on runs (id) where status = 'running';
create index runs_with_a_wish on runs (id) where wanted <> 'run' and status in ('queued', 'running', 'paused');

alter table signals drop constraint signal_kind_is_known;
alter table signals add constraint signal_kind_is_known check (kind in
    ('pause', 'resume', 'cancel', 'skip_failed_and_resume', 'node_pause', 'node_resume', 'node_skip', 'node_override'));

-- A run whose results are all those of an earlier one is over as soon as it is claimed.
drop trigger a_run_moves_legally on runs;
create trigger a_run_moves_legally before update of status on runs for each row
when (old.status <> new.status and old.status || ' ' || new.status <> all (array[
    'queued running', 'queued paused', 'queued completed', 'queued failed', 'queued canceled',
    'running paused', 'running completed', 'running failed', 'running canceled',
    'paused running', 'paused completed', 'paused failed', 'paused canceled',
    'completed running',
    'failed running', 'failed completed'
]))
execute function refuse_illegal_move('run');
