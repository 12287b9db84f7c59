-- name: versions()
select name, is_on, version from feature_flags;

-- name: overrides()
select name, user_id, is_on from feature_flag_overrides;

-- name: flag(name, user_id)^
select f.is_on, (select count(*) from feature_flag_overrides where name = :name) as overrides, o.is_on as override
from feature_flags f left join feature_flag_overrides o on o.name = f.name and o.user_id = :user_id
where f.name = :name;

-- name: put_flag(name, is_on, default)!
-- Sets the value for all; null leaves it. Even an override writes this row: its version tells other processes of the
-- change, and two simultaneous writers wait for each other.
insert into feature_flags (name, is_on) values (:name, coalesce(:is_on::boolean, :default::boolean))
on conflict (name) do update
set is_on = coalesce(:is_on::boolean, feature_flags.is_on), version = feature_flags.version + 1;

-- name: put_override(name, user_id, is_on)$
-- No row for a user who is not there.
insert into feature_flag_overrides (name, user_id, is_on)
select :name, user_id, :is_on from accounts where user_id = :user_id and not is_deleted
on conflict (name, user_id) do update set is_on = excluded.is_on returning true;

-- name: remove_override(name, user_id)!
delete from feature_flag_overrides where name = :name and user_id = :user_id;

-- name: export_overrides(user_id, after, limit)
select x.name as cursor, row_to_json(x)::text as document from (
    select name, is_on, created_at from feature_flag_overrides
    where user_id = :user_id and (:after::text is null or name > :after)
    order by name limit :limit) x;

-- name: erase_overrides(user_id, limit)$
with gone as (
    delete from feature_flag_overrides
    where user_id = :user_id and name in (
        select name from feature_flag_overrides where user_id = :user_id limit :limit)
    returning name
), told as (
    update feature_flags set version = version + 1 where name in (select name from gone)
)
select count(*) from gone;
