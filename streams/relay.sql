-- The relay's view of the outbox: what is pending, what was published and nobody recorded, what is done with.

-- name: lead()$
-- One relay among all processes. Held by the session: it falls free when the connection ends.
select pg_try_advisory_lock(hashtext('callboard.relay'));

-- name: pending(limit)
-- In the order of their ids. Rows of one key get theirs in the order of their commits, because who writes an event of
-- a key holds the lock on the row that the key names.
select outbox_id, event_id, topic, key, type, value, traceparent, occurred_at
from outbox
where published_at is null
order by outbox_id
limit :limit;

-- name: mark(outbox_ids)!
update outbox set published_at = now() where outbox_id = any(:outbox_ids::bigint[]);

-- name: reconcile(at_once, since, grace_s, window_s, topics, types, consumers)^
-- Set pending again what was published longer than the grace ago and not recorded by every consumer that is to. A row
-- that was sent again waits twice as long each time (a consumer that is only slow is not helped by more), unless
-- `at_once`. Rows up to `since` are known to be recorded; the answer tells up to when they are now.
with overdue as (
    select
        o.outbox_id,
        o.published_at,
        :at_once::boolean or o.published_at < now() - :grace_s::float8 * interval '1 second' * 2 ^ least(o.attempts, 6) as due
    from outbox as o
    where o.published_at > :since::timestamptz
        and o.published_at <= now() - :grace_s::float8 * interval '1 second'
        and o.occurred_at > now() - :window_s::float8 * interval '1 second'
        and exists (
            select
            from unnest(:topics::text[], :types::text[], :consumers::text[]) as e (topic, type, consumer)
            where e.topic = o.topic and e.type = o.type
                and not exists (
                    select
                    from consumed_events as c
                    where c.consumer = e.consumer and c.source = 'callboard' and c.event_id = o.event_id::text
                )
        )
),
again as (
    update outbox as o set published_at = null, attempts = o.attempts + 1
    from overdue
    where o.outbox_id = overdue.outbox_id and overdue.due
    returning o.outbox_id
)
select
    (select count(*) from again) as again,
    coalesce(
        (select min(published_at) - interval '1 microsecond' from overdue where not due),
        now() - :grace_s::float8 * interval '1 second'
    ) as settled_until;

-- name: purge_outbox(keep_s, limit, topics, types, consumers)$
-- Drop published rows: after a day those that every consumer recorded, after `keep_s` the others.
with done as (
    select o.outbox_id
    from outbox as o
    where o.published_at < now() - interval '1 day'
        and (
            o.published_at < now() - :keep_s::float8 * interval '1 second'
            or not exists (
                select
                from unnest(:topics::text[], :types::text[], :consumers::text[]) as e (topic, type, consumer)
                where e.topic = o.topic and e.type = o.type
                    and not exists (
                        select
                        from consumed_events as c
                        where c.consumer = e.consumer and c.source = 'callboard' and c.event_id = o.event_id::text
                    )
            )
        )
    order by o.published_at
    limit :limit
),
dropped as (
    delete from outbox using done where outbox.outbox_id = done.outbox_id returning 1
)
select count(*) from dropped;

-- name: purge_consumed(keep_s, limit)$
-- Forget what consumers had, once nothing of that age can come again from the outbox.
with done as (
    select ctid from consumed_events
    where consumed_at < now() - :keep_s::float8 * interval '1 second'
    order by consumed_at
    limit :limit
),
dropped as (
    delete from consumed_events using done where consumed_events.ctid = done.ctid returning 1
)
select count(*) from dropped;
