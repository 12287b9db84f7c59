-- name: open_session(session_id, user_id, password_changed_at, device, ip, network, ttl_s, refresh_hash, most, entry)^
-- The share lock waits for a concurrent change of the password or the account, and sees its result. A user has at most
-- `most` sessions with the new one; the least recently used ones end. The network is remembered, and the audit log gets
-- its entry: all in one round trip, since a login needs little else of PostgreSQL.
with person as (
    select user_id, email, full_name from users
    where user_id = :user_id and is_active and deleted_at is null and password_changed_at = :password_changed_at
    for share
), session as (
    insert into sessions (session_id, user_id, device, ip, expires_at)
    select :session_id::uuid, user_id, :device::text, :ip::inet, now() + make_interval(secs => :ttl_s) from person
    returning session_id
), token as (
    insert into refresh_tokens (refresh_hash, session_id) select :refresh_hash::bytea, session_id from session
), network as (
    insert into known_networks as known (user_id, network)
    select user_id, :network::cidr from person where :network::cidr is not null
    on conflict (user_id, network) do update set seen_at = now() where known.seen_at < now() - interval '1 day'
), entry as (
    insert into audit_log (action, actor, actor_id, user_id, ip, user_agent, trace_id, detail)
    select e.action, e.actor, e.actor_id, e.user_id, e.ip, e.user_agent, e.trace_id, e.detail
    from session, jsonb_populate_record(null::audit_log, :entry::jsonb) e
), surplus as (
    select s.session_id from sessions s join person using (user_id) where s.ended_at is null
    order by s.used_at desc, s.session_id offset :most::int - 1
    for update of s skip locked
), ended as (
    update sessions set ended_at = now() where session_id in (select session_id from surplus) returning session_id
)
select session_id, user_id, email, full_name, (select count(*) from ended) as surplus from person, session;

-- name: add_refresh_token(refresh_hash, session_id)!
insert into refresh_tokens (refresh_hash, session_id) values (:refresh_hash, :session_id);

-- name: living_session(session_id, user_id)^
select s.session_id, u.user_id, u.email, u.role,
       extract(epoch from s.expires_at - now())::double precision as left_s
from sessions s join users u using (user_id)
where s.session_id = :session_id and s.user_id = :user_id
  and s.ended_at is null and s.expires_at > now() and u.is_active and u.deleted_at is null;

-- name: living_sessions(user_id, most)
select session_id, device, host(ip) as ip, created_at, used_at, expires_at
from sessions where user_id = :user_id and ended_at is null and expires_at > now()
order by used_at desc, session_id limit :most;

-- name: session_of(refresh_hash)$
select session_id from refresh_tokens where refresh_hash = :refresh_hash;

-- name: lock_session(session_id, grace_s)^
select s.session_id, u.user_id, u.email, u.full_name
from sessions s join users u using (user_id)
where s.session_id = :session_id and s.ended_at is null and s.expires_at > now() - make_interval(secs => :grace_s)
  and u.is_active and u.deleted_at is null
for update of s;

-- name: read_token(refresh_hash, reuse_s)^
-- After lock_session, in a statement of its own: only then it sees the commit of the previous lock holder.
select spent_at is not null as spent, child_hash,
       coalesce(spent_at > now() - make_interval(secs => :reuse_s), false) as again
from refresh_tokens where refresh_hash = :refresh_hash;

-- name: spend_token(refresh_hash, child_hash)!
update refresh_tokens set spent_at = now(), child_hash = :child_hash where refresh_hash = :refresh_hash;

-- name: prolong_session(session_id, ip, ttl_s)!
update sessions set used_at = now(), ip = coalesce(:ip::inet, ip),
                    expires_at = now() + make_interval(secs => :ttl_s)
where session_id = :session_id;

-- name: end_session(session_id, user_id)$
update sessions set ended_at = now()
where session_id = :session_id and user_id = :user_id and ended_at is null
returning expires_at > now();

-- name: end_sessions(user_id, keep)!
-- Locked in one order, so that two of these do not deadlock.
update sessions set ended_at = now()
where session_id in (
    select session_id from sessions
    where user_id = :user_id and ended_at is null and session_id is distinct from :keep::uuid
    order by session_id for update
);

-- name: note_uses(session_ids)!
-- Locked rows are left for the next time.
update sessions set used_at = now()
where session_id in (
    select session_id from sessions
    where session_id = any(:session_ids::uuid[]) and ended_at is null and used_at < now() - interval '1 minute'
    for update skip locked
);

-- name: is_proved(session_id, within_s)$
-- Null for an ended session.
select proved_at > now() - make_interval(secs => :within_s) from sessions
where session_id = :session_id and ended_at is null;

-- name: prove(session_id, user_id, password_changed_at)$
-- The share lock waits for a concurrent change of the password, and sees its result.
with person as (
    select user_id from users
    where user_id = :user_id and is_active and deleted_at is null and password_changed_at = :password_changed_at
    for share
)
update sessions s set proved_at = now() from person
where s.session_id = :session_id and s.user_id = person.user_id and s.ended_at is null
returning true;

-- name: count_active_users(within_s)$
-- Users with a recently used session.
select count(distinct user_id) from sessions
where ended_at is null and used_at > now() - make_interval(secs => :within_s);

-- name: export_sessions(user_id, after, limit)
select x.session_id::text as cursor, row_to_json(x)::text as document from (
    select session_id, device, ip, created_at, used_at, expires_at, ended_at
    from sessions where user_id = :user_id and (:after::uuid is null or session_id > :after::uuid)
    order by session_id limit :limit) x;

-- name: erase_sessions(user_id, limit)$
-- Their tokens are deleted with them.
with gone as (
    delete from sessions where session_id in (select session_id from sessions where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;

-- name: export_networks(user_id, after, limit)
select x.network::text as cursor, row_to_json(x)::text as document from (
    select network, seen_at from known_networks
    where user_id = :user_id and (:after::text is null or network > :after::text::cidr)
    order by network limit :limit) x;

-- name: erase_networks(user_id, limit)$
with gone as (
    delete from known_networks where user_id = :user_id and network in (
        select network from known_networks where user_id = :user_id limit :limit)
    returning 1
)
select count(*) from gone;

-- name: ended_among(session_ids)
-- By the same conditions as living_session.
select asked.session_id from unnest(:session_ids::uuid[]) as asked (session_id)
where not exists (
    select from sessions s join users u using (user_id)
    where s.session_id = asked.session_id
      and s.ended_at is null and s.expires_at > now() and u.is_active and u.deleted_at is null);
