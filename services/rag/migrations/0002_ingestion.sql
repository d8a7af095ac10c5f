-- What is in `building`: for which model, size of chunks and language it was cut, and how many chunks that made.
alter table versions add column recipe text;
alter table versions add column planned int; -- null until all of them are there
alter table versions add constraint a_plan_is_of_a_recipe check (planned is null or recipe is not null);

-- Chunks that are searched by their words alone, until vectors can be made of them.
create index building_without_vectors on building (document_id, version) where h is null;
