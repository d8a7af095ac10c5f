-- What keeps a space from being made anew, for people to read; null when nothing is under way or in the way.
alter table spaces add column waits_for text;
alter table spaces add constraint only_what_is_wanted_waits check (waits_for is null or wanted is not null);

-- The order that was answered with what an attempt was shown: its answer goes when the document does.
alter table retrievals add column command_id uuid;
