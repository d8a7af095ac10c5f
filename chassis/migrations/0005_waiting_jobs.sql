-- What a job waits for is no failure of its attempts: those are not counted, these are.
alter table jobs add column waits int not null default 0;
