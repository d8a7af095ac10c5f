-- Orders that make a run go on, and such as cannot be carried out; which of a task's runs became active last; revisions.

alter table runs add column goes_on boolean not null default false;  -- an order that reopens it, once ended, waits

-- Over all runs of a task: the greater one became active later. At most one of them is active at a time, so the numbers
-- come in the order of what happened, and no clock has a say.
create sequence activations;
alter table runs add column activation bigint not null default 0;
alter table runs alter column activation set default nextval('activations');

alter table signals add column tries int not null default 0;         -- turns that it has broken, or may have

-- Of orders and verdicts that could not be carried out.
create index dead_letters_of_a_run on dead_letters ((headers->>'ce-subject')) where consumer = 'executor-orders';

-- The attempt follows a review by itself; nobody asked for it.
alter table guidances add column revised boolean not null default false;
