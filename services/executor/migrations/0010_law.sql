-- The law in fewer words: a statement that writes a row reads all checks and conditions of its table anew, which was a fifth of
-- what a small turn took. And it is looked at after the update: a trigger before it locks each row once more, and writes that
-- down.

create function run_may_go(old_status text, new_status text) returns boolean language plpgsql immutable as $$
begin
    return old_status || ' ' || new_status = any (array[
        'queued running', 'queued paused', 'queued completed', 'queued failed', 'queued canceled',
        'running paused', 'running completed', 'running failed', 'running canceled',
        'paused running', 'paused completed', 'paused failed', 'paused canceled',
        'completed running',
        'failed running', 'failed completed'
    ]);
end
$$;

create function node_may_go(old_status text, new_status text) returns boolean language plpgsql immutable as $$
begin
    return old_status || ' ' || new_status = any (array[
        'queued running', 'queued paused', 'queued skipped', 'queued canceled',
        'running queued', 'running reviewing', 'running paused', 'running completed', 'running failed', 'running skipped',
        'running canceled',
        'reviewing queued', 'reviewing paused', 'reviewing completed', 'reviewing failed', 'reviewing canceled',
        'paused queued', 'paused completed', 'paused skipped', 'paused canceled',
        'completed queued', 'completed paused',
        'failed queued', 'failed skipped'
    ]);
end
$$;

drop trigger a_run_moves_legally on runs;
create trigger a_run_moves_legally after update of status on runs for each row
when (old.status <> new.status and not run_may_go(old.status, new.status))
execute function refuse_illegal_move('run');

drop trigger a_node_moves_legally on nodes;
create trigger a_node_moves_legally after update of status on nodes for each row
when (old.status <> new.status and not node_may_go(old.status, new.status))
execute function refuse_illegal_move('node');

-- Whether a status is known follows from where it may stand beside `ended_at`.
alter table runs
    drop constraint run_status_is_known,
    drop constraint run_ended_when_final,
    add constraint run_ended_when_final check (case when ended_at is null then status in ('queued', 'running', 'paused')
        else status in ('completed', 'failed', 'canceled') end);
alter table nodes
    drop constraint node_status_is_known,
    drop constraint node_ended_when_final,
    drop constraint node_counts_are_sound,
    drop constraint node_waits_are_sound,
    add constraint node_ended_when_final check (
        case when ended_at is null then status in ('queued', 'running', 'reviewing', 'paused')
        else status in ('completed', 'failed', 'skipped', 'canceled') end),
    add constraint node_counts_are_sound check (least(attempt, failures, losses, waits) >= 0);
alter table attempts
    drop constraint attempt_status_is_known,
    drop constraint attempt_ended_unless_running,
    add constraint attempt_ended_unless_running check (
        case when ended_at is null then status = 'running'
        else status in ('succeeded', 'failed', 'lost', 'canceled') end);
