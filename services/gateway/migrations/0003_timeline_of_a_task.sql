-- The story of a task: its own facts and those of its runs. Facts of nodes do not name the task.
create index timeline_of_a_task on timeline (company_id, task_id, position) where task_id is not null;
