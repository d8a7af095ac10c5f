-- A task shows the run that moved last: an ended run that is reopened after a newer one has ended is shown again.
alter table task_runs add column moved_at timestamptz not null default 'epoch';
update task_runs set moved_at = asked_at where state not in ('asked', 'refused');
drop index runs_of_a_task;
create index runs_of_a_task on task_runs (task_id, moved_at desc, ordinal desc);
