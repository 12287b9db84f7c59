-- name: declare(name, kind, payload, cron, zone, missed)!
-- The code decides the schedule; operators decide whether it is enabled. A changed rhythm starts now.
insert into schedules (name, kind, payload, cron, zone, missed)
values (:name, :kind, :payload::text::jsonb, :cron, :zone, :missed)
on conflict (name) do update
set kind = excluded.kind, payload = excluded.payload, cron = excluded.cron, zone = excluded.zone, missed = excluded.missed,
    last_due = case when (schedules.cron, schedules.zone) = (excluded.cron, excluded.zone)
                    then schedules.last_due else statement_timestamp() end
where (schedules.kind, schedules.payload, schedules.cron, schedules.zone, schedules.missed)
      is distinct from (excluded.kind, excluded.payload, excluded.cron, excluded.zone, excluded.missed);

-- name: enabled_schedules(kinds)
select name, kind, payload, cron, zone, missed, last_due, statement_timestamp() as now
from schedules where enabled and kind = any(:kinds::text[]);

-- name: move_on(name, old_due, due)$
-- Of any number of processes one moves it.
update schedules set last_due = :due where name = :name and last_due = :old_due and enabled returning true;

-- name: list_schedules()
select name, kind, payload, cron, zone, enabled, missed, last_due, statement_timestamp() as now from schedules order by name;

-- name: schedule_of(name)^
select name, kind, payload, cron, zone, enabled, missed, last_due, statement_timestamp() as now
from schedules where name = :name;

-- name: enable_schedule(name, enabled)$
-- A schedule that is enabled again skips its past times.
update schedules set last_due = case when enabled then last_due else statement_timestamp() end, enabled = :enabled
where name = :name returning true;
