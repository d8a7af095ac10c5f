-- A task shows the run that became active last, as the executor counts them: clocks of two machines are no measure of that.
-- (`moved_at` goes when no planner that reads it is left.)
alter table task_runs add column activation bigint not null default 0;
update task_runs r set activation = -before.rank   -- those of before, in the order in which they moved
from (select run_id, row_number() over (order by moved_at desc, ordinal desc) as rank from task_runs
      where state not in ('asked', 'refused')) as before
where r.run_id = before.run_id;
drop index runs_of_a_task;
create index runs_of_a_task on task_runs (task_id, activation desc, ordinal desc);
