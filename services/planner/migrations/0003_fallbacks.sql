-- Who stands in while the assigned model is not to be had: null is the server's own choice, an empty list nobody.
alter table assignments add column fallbacks jsonb;
