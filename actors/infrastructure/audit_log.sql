-- name: add_entry(entry)!
insert into audit_log (action, actor, actor_id, user_id, ip, user_agent, trace_id, detail)
select action, actor, actor_id, user_id, ip, user_agent, trace_id, detail
from jsonb_populate_record(null::audit_log, :entry::jsonb);

-- name: add_failures(actions, user_ids, ips, user_agents, trace_ids, details)!
-- Deleted accounts are included: an entry has no foreign key.
insert into audit_log (action, actor, user_id, ip, user_agent, trace_id, detail)
select action, 'anonymous', user_id, ip, user_agent, trace_id, detail
from unnest(:actions::text[], :user_ids::uuid[], :ips::inet[], :user_agents::text[], :trace_ids::text[],
            :details::jsonb[])
     as given (action, user_id, ip, user_agent, trace_id, detail);

-- name: entries(since, until, before, before_id, limit)
-- Newest first. Missing bounds are infinite, so that every plan reads the index within them.
select audit_id, occurred_at, action, actor, actor_id, user_id, host(ip) as ip, user_agent, trace_id,
       detail::text as detail
from audit_log
where true
  and occurred_at >= coalesce(:since::timestamptz, '-infinity') and occurred_at < coalesce(:until::timestamptz, 'infinity')
  and (occurred_at, audit_id) < (coalesce(:before::timestamptz, 'infinity'), coalesce(:before_id::bigint, 0))
order by occurred_at desc, audit_id desc
limit :limit;

-- name: entries_by_action(action, since, until, before, before_id, limit)
select audit_id, occurred_at, action, actor, actor_id, user_id, host(ip) as ip, user_agent, trace_id,
       detail::text as detail
from audit_log
where action = :action
  and occurred_at >= coalesce(:since::timestamptz, '-infinity') and occurred_at < coalesce(:until::timestamptz, 'infinity')
  and (occurred_at, audit_id) < (coalesce(:before::timestamptz, 'infinity'), coalesce(:before_id::bigint, 0))
order by occurred_at desc, audit_id desc
limit :limit;

-- name: entries_of(user_id, action, since, until, before, before_id, limit)
-- Entries about the user and entries that the user caused. Each half reads its own index.
with about as (
    select * from audit_log
    where user_id = :user_id and (:action::text is null or action = :action)
      and occurred_at >= coalesce(:since::timestamptz, '-infinity') and occurred_at < coalesce(:until::timestamptz, 'infinity')
      and (occurred_at, audit_id) < (coalesce(:before::timestamptz, 'infinity'), coalesce(:before_id::bigint, 0))
    order by occurred_at desc, audit_id desc
    limit :limit
), done as (
    select * from audit_log
    where actor_id = :user_id and user_id is distinct from :user_id and (:action::text is null or action = :action)
      and occurred_at >= coalesce(:since::timestamptz, '-infinity') and occurred_at < coalesce(:until::timestamptz, 'infinity')
      and (occurred_at, audit_id) < (coalesce(:before::timestamptz, 'infinity'), coalesce(:before_id::bigint, 0))
    order by occurred_at desc, audit_id desc
    limit :limit
)
select audit_id, occurred_at, action, actor, actor_id, user_id, host(ip) as ip, user_agent, trace_id,
       detail::text as detail
from (table about union all table done) both_of_them
order by occurred_at desc, audit_id desc
limit :limit;

-- name: purge(days, failure_days, limit)$
select purge_audit_log(make_interval(days => :days), make_interval(days => :failure_days), :limit);

-- name: erase(user_id)$
select erase_from_audit_log(:user_id);

-- name: export_entries(user_id, after, limit)
-- The origin of another user is private: of an admin's action it says only that a user caused it.
select x.audit_id::text as cursor, row_to_json(x)::text as document from (
    select audit_id, occurred_at, action, actor, user_id, detail,
           case when actor_id = :user_id then actor_id end as actor_id,
           case when actor_id = :user_id or actor = 'anonymous' then ip end as ip,
           case when actor_id = :user_id or actor = 'anonymous' then user_agent end as user_agent
    from (select * from audit_log where user_id = :user_id
          union all select * from audit_log where actor_id = :user_id and user_id is distinct from :user_id) both_of_them
    where :after::text::bigint is null or audit_id > :after::text::bigint
    order by audit_id limit :limit) x;
