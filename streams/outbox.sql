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

-- name: append_produced(event_ids, sources, ce_ids, topics, keys, types, contents, traceparents, times)
-- Adds producers' events, in order, without those that are there already; returns the ids of the added ones.
insert into outbox (event_id, source, ce_id, topic, key, type, value, traceparent, ce_time)
select e.event_id, e.source, e.ce_id, e.topic, e.key, e.type, e.value, e.traceparent, e.ce_time
from unnest(
    :event_ids::uuid[], :sources::text[], :ce_ids::text[], :topics::text[], :keys::text[], :types::text[],
    :contents::bytea[], :traceparents::text[], :times::timestamptz[]
) with ordinality as e (event_id, source, ce_id, topic, key, type, value, traceparent, ce_time, place)
order by e.place
on conflict (event_id) do nothing
returning event_id;

-- name: remember(consumer, sources, event_ids)
-- Returns those of these events that are new to the consumer. Inserted in one fixed order, so that two transactions
-- with the same events wait for each other instead of deadlocking.
insert into consumed_events (consumer, source, event_id)
select :consumer::text, source, event_id
from unnest(:sources::text[], :event_ids::text[]) as met (source, event_id)
order by source, event_id
on conflict do nothing
returning source, event_id;
