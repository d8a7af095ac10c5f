-- What retention looks for. Rows of these two come in the order of their age: a block range index costs writers nothing.
create index inbox_by_age on inbox using brin (handled_at) with (pages_per_range = 32, autosummarize = on);
create index commands_by_age on commands using brin (created_at) with (pages_per_range = 32, autosummarize = on);
create index jobs_by_age on jobs (ended_at) where ended_at is not null;
