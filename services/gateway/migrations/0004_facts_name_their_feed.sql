-- The statement before a fact's own makes its feed, in the same transaction: looking it up again for every fact cost a
-- tenth of what the projection costs.
alter table timeline drop constraint timeline_company_id_fkey;
