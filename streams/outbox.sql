-- The outbox and the record of consumed events. Every query here runs in the caller's transaction.

-- name: append(event_id, topic, key, type, value, traceparent, occurred_at)!
-- Adds an event in the transaction of its cause. The trigger on the table wakes the relay at commit.
insert into outbox (event_id, topic, key, type, value, traceparent, occurred_at)
values (:event_id, :topic, :key, :type, :value, :traceparent, coalesce(:occurred_at::timestamptz, now()));

-- name: append_all(event_ids, topic, keys, type, contents, traceparent)!
-- Adds events of one type, in order.
insert into outbox (event_id, topic, key, type, value, traceparent)
select e.event_id, :topic, e.key, :type, e.value, :traceparent
from unnest(:event_ids::uuid[], :keys::text[], :contents::bytea[]) with ordinality as e (event_id, key, value, place)
order by e.place;

-- name: remember(consumer, sources, event_ids)
-- Returns those of these events that are new to the consumer. Inserted in one fixed order, so that two transactions
-- with the same events wait for each other instead of deadlocking.
insert into consumed_events (consumer, source, event_id)
select :consumer::text, source, event_id
from unnest(:sources::text[], :event_ids::text[]) as met (source, event_id)
order by source, event_id
on conflict do nothing
returning source, event_id;
