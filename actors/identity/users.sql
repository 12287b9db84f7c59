-- name: add_user(user_id, email, password_hash, full_name, role, is_verified, password_needed, registered_from)^
-- No row comes back if the address or the id is taken: the caller asks which.
insert into users (user_id, email, password_hash, full_name, role, is_verified, password_needed, registered_from)
values (:user_id, :email, :password_hash, :full_name, :role, :is_verified, :password_needed, :registered_from::inet)
on conflict do nothing
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: add_profile(user_id, languages)!
insert into user_profiles (user_id, languages) values (:user_id, :languages::text[]);

-- name: users_by_id(user_ids)
select user_id, email, full_name, role, is_verified, is_active, created_at
from users where user_id = any(:user_ids) and deleted_at is null;

-- name: user_by_email(email)^
select user_id, email, full_name, role, is_verified, is_active, created_at, password_hash
from users where lower(email) = lower(:email) and deleted_at is null;

-- name: lock_user(user_id)^
select user_id, email, full_name, role, is_verified, is_active, created_at
from users where user_id = :user_id and deleted_at is null
for update;

-- name: mark_verified(password_hash, user_id)^
-- A password that comes with the proof of the mailbox replaces the first.
update users
set is_verified = true, password_needed = false,
    password_hash = coalesce(:password_hash, password_hash),
    password_changed_at = case when :password_hash::text is null then password_changed_at else now() end
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: move_to_address(email, user_id)^
update users set is_verified = true, password_needed = false, email = :email
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: forget_password(user_id)!
-- The person who knew it may be the one from whom the account was taken back.
update users set password_hash = '', password_changed_at = now() where user_id = :user_id;

-- name: forget_networks(user_id)!
delete from known_networks where user_id = :user_id;

-- name: remove_refused(user_id)$
delete from users where user_id = :user_id and not is_verified and deleted_at is null returning user_id;

-- name: adopt(password_hash, user_id)!
-- The person who registered the unverified account chose its password: it does not stay.
update users
set password_hash = case when is_verified then password_hash else :password_hash end,
    password_changed_at = case when is_verified then password_changed_at else now() end,
    is_verified = true, password_needed = false
where user_id = :user_id and deleted_at is null;

-- name: lock_admins()
-- Locked in one order, so that two admins who demote each other do not both succeed.
select user_id from users
where role = 'admin' and is_active and is_verified and deleted_at is null
order by user_id for update;

-- name: change_user(role, is_active, user_id)^
update users set role = coalesce(:role, role), is_active = coalesce(:is_active, is_active)
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: edit_user(full_name, email, user_id)^
update users set full_name = :full_name, email = coalesce(:email, email)
where user_id = :user_id and deleted_at is null
returning user_id, email, full_name, role, is_verified, is_active, created_at;

-- name: delete_user(user_id)^
update users set deleted_at = now()
where user_id = :user_id and deleted_at is null
returning user_id;

-- name: export_account(user_id, after, limit)
select ''::text as cursor, row_to_json(x)::text as document from (
    select user_id, email, full_name, role, is_verified, is_active, terms_at, password_changed_at, created_at, updated_at,
           registered_from
    from users where user_id = :user_id and :after::text is null limit :limit) x;

-- name: erase_account(user_id, limit)$
-- The row stays, as the anonymous author of published content. Its address is like no other, so no lookup by address
-- finds it.
with erased as (
    update users
    set email = user_id || '@erased.invalid', full_name = 'Deleted user', password_hash = '', is_active = false,
        registered_from = null
    where user_id in (
        select user_id from users
        where user_id = :user_id and deleted_at is not null and email <> user_id || '@erased.invalid' limit :limit)
    returning 1
)
select count(*) from erased;
