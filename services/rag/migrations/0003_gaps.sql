-- What lies between a chunk and the next, blanks mostly: neighbours are shown as one passage, exactly as they lie there.
alter table building add column gap text not null default '';
alter table chunks add column gap text not null default '';
