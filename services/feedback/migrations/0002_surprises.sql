-- How often a review has ended in something nobody foresaw: it must neither go round for ever nor call a model each time.
alter table model_calls alter column answer drop not null;
alter table model_calls add column surprises int not null default 0;
alter table model_calls add column surprise text;   -- the latest
