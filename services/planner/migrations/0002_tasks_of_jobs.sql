-- Retention asks of each old job whether a task still refers to it.
create index tasks_by_job on tasks (job_id) where job_id is not null;
