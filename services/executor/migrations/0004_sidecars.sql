-- An attempt that uses tools calls its model several times: each call has an account of its own.

alter table sidecars add column call int not null default 1;   -- counts the calls of the attempt
create unique index one_sidecar_per_call on sidecars (node_id, attempt, call);
drop index sidecars_of_a_node;
