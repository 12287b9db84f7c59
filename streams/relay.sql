-- The relay's view of the outbox: rows that are pending, refused, or published and not recorded.

-- name: pending(limit, busy)
-- The rows that may be published now, `limit` of each topic that is not busy, in the order of their ids. Rows of one
-- key have ids in the order of their commits, because the writer of an event locks the row that the key names. A
-- refused row waits for its time, and later rows of its key wait for it.
with recursive topics (topic) as (
    (select topic from outbox where published_at is null and retry_at is null order by topic limit 1)
    union all
    select (
        select o.topic from outbox as o
        where o.published_at is null and o.retry_at is null and o.topic > t.topic
        order by o.topic limit 1
    )
    from topics as t where t.topic is not null
),
ready as (
    select r.*
    from topics as t
    cross join lateral (
        select o.*
        from outbox as o
        where o.published_at is null and o.retry_at is null and o.topic = t.topic
            and not exists (
                select from outbox as e
                where e.published_at is null and e.retry_at is not null
                    and e.topic = o.topic and e.key = o.key and e.outbox_id < o.outbox_id
            )
        order by o.outbox_id
        limit :limit
    ) as r
    where t.topic is not null and t.topic <> all(:busy::text[])
),
due as (
    select o.*
    from outbox as o
    where o.published_at is null and o.retry_at <= now() and o.topic <> all(:busy::text[])
        and not exists (
            select from outbox as e
            where e.published_at is null and e.retry_at is not null
                and e.topic = o.topic and e.key = o.key and e.outbox_id < o.outbox_id
        )
    order by o.retry_at
    limit :limit
)
select
    outbox_id, coalesce(ce_id, event_id::text) as event_id, source, topic, key, type, value, traceparent,
    coalesce(ce_time, occurred_at) as occurred_at
from (select * from ready union all select * from due) as found
order by outbox_id;

-- name: mark(outbox_ids, fence)$
-- Records rows as published, if the lease is still ours: returns the number of leases, 1 or 0.
with lease as (
    select from leases where name = 'relay' and fence = :fence for share
),
marked as (
    update outbox set published_at = now(), retry_at = null, error = null
    where outbox_id = any(:outbox_ids::bigint[]) and exists (select from lease)
)
select count(*) from lease;

-- name: refuse(outbox_ids, errors, fence)$
-- Records rows as refused, each to be retried after twice the last wait, ten minutes at most.
with lease as (
    select from leases where name = 'relay' and fence = :fence for share
),
refused as (
    update outbox as o
    set refusals = o.refusals + 1,
        error = r.error,
        retry_at = now() + interval '10 seconds' * least(60, 2 ^ least(o.refusals, 6))
    from unnest(:outbox_ids::bigint[], :errors::text[]) as r (outbox_id, error)
    where o.outbox_id = r.outbox_id and exists (select from lease)
)
select count(*) from lease;

-- name: state()^
-- The number of refused rows, and the age of the oldest other row that waits.
with recursive topics (topic) as (
    (select topic from outbox where published_at is null and retry_at is null order by topic limit 1)
    union all
    select (
        select o.topic from outbox as o
        where o.published_at is null and o.retry_at is null and o.topic > t.topic
        order by o.topic limit 1
    )
    from topics as t where t.topic is not null
)
select
    (select count(*) from outbox where published_at is null and retry_at is not null) as waiting,
    coalesce((
        select extract(epoch from now() - min(first.occurred_at))
        from topics as t
        cross join lateral (
            select occurred_at from outbox
            where published_at is null and retry_at is null and topic = t.topic
            order by outbox_id limit 1
        ) as first
    ), 0)::float8 as oldest_s;

-- name: refused_rows(after, limit)
-- The rows after `after` that no broker has accepted, oldest first, with the reason.
select outbox_id, event_id, topic, key, type, length(value) as bytes, refusals, error, retry_at, occurred_at
from outbox
where published_at is null and retry_at is not null and outbox_id > :after
order by outbox_id
limit :limit;

-- name: reconcile(at_once, since_at, since_id, limit, grace_s, window_s, topics, types, consumers)^
-- Marks as pending again, among `limit` rows, those published longer than the grace time ago and not recorded by every
-- expected consumer. A republished row waits twice as long each time (a slow consumer is not helped by more), unless
-- `at_once`. Rows up to `since` are known to be recorded; the result says up to which they are now.
with candidate as (
    select outbox_id, published_at, attempts, topic, type, event_id, source, ce_id
    from outbox
    where (published_at, outbox_id) > (:since_at::timestamptz, :since_id::bigint)
        and published_at <= now() - :grace_s::float8 * interval '1 second'
        and occurred_at > now() - :window_s::float8 * interval '1 second'
    order by published_at, outbox_id
    limit :limit
),
overdue as (
    select
        o.outbox_id,
        o.published_at,
        :at_once::boolean or o.published_at < now() - :grace_s::float8 * interval '1 second' * 2 ^ least(o.attempts, 6) as due
    from candidate as o
    where exists (
        select
        from unnest(:topics::text[], :types::text[], :consumers::text[]) as e (topic, type, consumer)
        where e.topic = o.topic and e.type = o.type
            and not exists (
                select
                from consumed_events as c
                where c.consumer = e.consumer and c.source = o.source and c.event_id = coalesce(o.ce_id, o.event_id::text)
            )
    )
),
again as (
    update outbox as o set published_at = null, attempts = o.attempts + 1
    from overdue
    where o.outbox_id = overdue.outbox_id and overdue.due
    returning o.outbox_id
),
until as (
    (select published_at, outbox_id - 1 as outbox_id, false as is_full from overdue where not due order by 1, 2 limit 1)
    union all
    (
        select published_at, outbox_id, (select count(*) from candidate) = :limit
        from candidate order by published_at desc, outbox_id desc limit 1
    )
    limit 1
)
select (select count(*) from again) as again, published_at as until_at, outbox_id as until_id, coalesce(is_full, false) as is_full
from (select) as always left join until on true;

-- name: purge_outbox(keep_s, limit, topics, types, consumers)$
-- Drops published rows: after a day those that every consumer recorded, after `keep_s` the others.
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
                        where c.consumer = e.consumer and c.source = o.source and c.event_id = coalesce(o.ce_id, o.event_id::text)
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
-- Drops records of consumed events, once no event of that age can come again from the outbox.
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
