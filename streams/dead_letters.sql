-- Dead letters: records that no consumer could act on, stored whole until an operator decides.

-- name: record(dead_letter_ids, fingerprints, consumers, topics, partitions, offsets, keys, bodies, headers, reasons, details, sources, event_ids, notice_ids, notice_topics, notices)$
-- Store these letters, announce the new ones on their topics' .dlq, and record their events as consumed, so that the
-- reconciler leaves them alone. A known letter changes nothing, and neither does the letter of an event that its
-- consumer has recorded.
with letter as (
    select *
    from unnest(
        :dead_letter_ids::uuid[], :fingerprints::bytea[], :consumers::text[], :topics::text[], :partitions::int[], :offsets::bigint[],
        :keys::bytea[], :bodies::bytea[], :headers::text[], :reasons::text[], :details::text[],
        :sources::text[], :event_ids::text[], :notice_ids::uuid[], :notice_topics::text[], :notices::bytea[]
    ) as l (
        dead_letter_id, fingerprint, consumer, topic, partition, "offset", key, value, headers, reason, detail,
        source, event_id, notice_id, notice_topic, notice
    )
),
consumed as (
    insert into consumed_events (consumer, source, event_id)
    select consumer, source, event_id from letter
    where event_id is not null
    order by source, event_id
    on conflict do nothing
    returning consumer, source, event_id
),
recorded as (
    insert into dead_letters
        (dead_letter_id, fingerprint, consumer, topic, partition, "offset", key, value, headers, reason, detail)
    select dead_letter_id, fingerprint, consumer, topic, partition, "offset", key, value, headers::jsonb, reason, detail
    from letter
    where event_id is null
        or exists (
            select from consumed as c
            where c.consumer = letter.consumer and c.source = letter.source and c.event_id = letter.event_id
        )
    on conflict (fingerprint) do nothing
    returning dead_letter_id
),
told as (
    insert into outbox (event_id, topic, key, type, value)
    select notice_id, notice_topic, dead_letter_id::text, 'dead_letter.recorded', notice
    from letter join recorded using (dead_letter_id)
)
select count(*) from recorded;

-- name: page(topic, reason, since, replayed, before_at, before_id, most, limit)
-- Letters before the given one, newest first, each with `most` bytes of its key and of its value.
select dead_letter_id, consumer, topic, partition, "offset", substring(key for :most) as key,
       substring(value for :most) as value, coalesce(length(value), 0) as value_bytes,
       case when length(headers::text) <= :most then headers else '[]' end as headers,
       length(headers::text) <= :most and coalesce(length(key), 0) <= :most as is_whole,
       reason, detail, created_at, replayed_at, replays
from dead_letters
where (:topic::text is null or topic = :topic) and (:reason::text is null or reason = :reason)
    and (:since::timestamptz is null or created_at >= :since)
    and (:replayed or replayed_at is null)
    and (:before_at::timestamptz is null or (created_at, dead_letter_id) < (:before_at, :before_id::uuid))
order by created_at desc, dead_letter_id desc
limit :limit;

-- name: letter(dead_letter_id)^
select dead_letter_id, consumer, topic, partition, "offset", key, value, coalesce(length(value), 0) as value_bytes,
       headers, true as is_whole, reason, detail, created_at, replayed_at, replays
from dead_letters where dead_letter_id = :dead_letter_id;

-- name: oldest(topic, reason, since, until, limit)
-- Letters that wait for a decision, oldest first: so events of one key are replayed in their order.
select dead_letter_id from dead_letters
where replayed_at is null and created_at <= :until
    and (:topic::text is null or topic = :topic) and (:reason::text is null or reason = :reason)
    and (:since::timestamptz is null or created_at >= :since)
order by created_at, dead_letter_id
limit :limit;

-- name: take(dead_letter_id)^
-- Of two replays at the same time one gets the row.
update dead_letters set replayed_at = now(), replays = replays + 1
where dead_letter_id = :dead_letter_id and replayed_at is null
returning dead_letter_id, consumer, topic, partition, "offset", key, value, headers, reason, detail, created_at, replays;

-- name: forget(consumer, source, event_id)!
-- The event of a letter is new to its consumer again.
delete from consumed_events where consumer = :consumer and source = :source and event_id = :event_id;

-- name: reopen(dead_letter_id, consumer, source, event_id, reason, detail)$
-- A replayed letter that failed again waits again, as the newest one, unless its consumer has recorded the event
-- meanwhile.
with consumed as (
    insert into consumed_events (consumer, source, event_id)
    select :consumer::text, :source::text, :event_id::text where :event_id::text is not null
    on conflict do nothing
    returning 1
), reopened as (
    update dead_letters set replayed_at = null, created_at = now(), reason = :reason, detail = :detail
    where dead_letter_id = :dead_letter_id and replayed_at is not null
        and (:event_id::text is null or exists (select from consumed))
    returning 1
)
select count(*) from reopened;

-- name: drop_letter(dead_letter_id)^
delete from dead_letters where dead_letter_id = :dead_letter_id and replayed_at is null returning topic, reason;

-- name: waiting()$
-- How many letters wait for a decision.
select count(*) from dead_letters where replayed_at is null;

-- name: export_dead_letters(user_id, after, limit)
-- Records about a user are keyed by the user's id, mails by the address.
select x.dead_letter_id::text as cursor, row_to_json(x)::text as document from (
    select dead_letter_id, topic, convert_from(key, 'UTF8') as key, encode(value, 'base64') as value_base64, reason, created_at
    from dead_letters
    where key in (select convert_to(user_id::text, 'UTF8') from accounts where user_id = :user_id
                  union all select convert_to(email, 'UTF8') from accounts where user_id = :user_id)
      and (:after::uuid is null or dead_letter_id > :after::uuid)
    order by dead_letter_id limit :limit) x;

-- name: erase_dead_letters(user_id, limit)$
with gone as (
    delete from dead_letters where dead_letter_id in (
        select dead_letter_id from dead_letters
        where key in (select convert_to(user_id::text, 'UTF8') from accounts where user_id = :user_id
                      union all select convert_to(email, 'UTF8') from accounts where user_id = :user_id)
        limit :limit)
    returning 1
)
select count(*) from gone;
