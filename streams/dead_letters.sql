-- Dead letters: records that no consumer could act on, kept whole until somebody decides.

-- name: bury(fingerprints, consumers, topics, partitions, offsets, keys, bodies, headers, reasons, details, sources, event_ids, notice_ids, notice_topics, notices)$
-- Keep these letters, tell of the new ones on their topics' .dlq, and record the events among them as consumed, so that
-- the reconciler leaves them alone. A letter that is known already changes nothing.
with letter as (
    select *
    from unnest(
        :fingerprints::bytea[], :consumers::text[], :topics::text[], :partitions::int[], :offsets::bigint[],
        :keys::bytea[], :bodies::bytea[], :headers::text[], :reasons::text[], :details::text[],
        :sources::text[], :event_ids::text[], :notice_ids::uuid[], :notice_topics::text[], :notices::bytea[]
    ) as l (
        fingerprint, consumer, topic, partition, "offset", key, value, headers, reason, detail,
        source, event_id, notice_id, notice_topic, notice
    )
),
buried as (
    insert into dead_letters
        (fingerprint, consumer, topic, partition, "offset", key, value, headers, reason, detail)
    select fingerprint, consumer, topic, partition, "offset", key, value, headers::jsonb, reason, detail
    from letter
    on conflict (fingerprint) do nothing
    returning fingerprint
),
told as (
    insert into outbox (event_id, topic, key, type, value)
    select notice_id, notice_topic, consumer, 'dead_letter.recorded', notice
    from letter join buried using (fingerprint)
),
consumed as (
    insert into consumed_events (consumer, source, event_id)
    select consumer, source, event_id from letter
    where event_id is not null
    order by source, event_id
    on conflict do nothing
)
select count(*) from buried;

-- name: page(after_at, after_id, limit)
-- Letters that wait for a decision, newest first, after the given one.
select dead_letter_id, consumer, topic, partition, "offset", key, value, headers, reason, detail, created_at
from dead_letters
where replayed_at is null
    and (
        :after_at::timestamptz is null
        or (created_at, dead_letter_id) < (:after_at::timestamptz, :after_id::uuid)
    )
order by created_at desc, dead_letter_id desc
limit :limit;

-- name: waiting()$
-- How many letters wait for a decision.
select count(*) from dead_letters where replayed_at is null;
