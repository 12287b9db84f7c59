alter table user_usage add column upload_rows bigint not null default 0;
alter table user_usage add column upload_bytes bigint not null default 0;

create table uploads (
    upload_id     uuid        primary key,
    user_id       uuid        not null references users on delete cascade,
    object_id     uuid        not null default gen_random_uuid() constraint uploads_object_key unique,
    kind          text        not null constraint uploads_kind_check check (kind in ('whole', 'partial', 'final')),
    size          bigint      check (size >= 0),           -- null until its client knows it
    reserved      bigint      not null check (reserved >= 0),   -- counts against the quota: the size, or the most that it may be
    received      bigint      not null default 0,          -- bytes that are durable: the offset
    metadata      text        not null default '' check (octet_length(metadata) <= 4096),   -- Upload-Metadata, as sent
    filename      text        check (length(filename) between 1 and 255),                    -- as the client says
    declared_type text        check (length(declared_type) between 1 and 127),               -- as the client says
    media_type    text        check (length(media_type) between 1 and 127),                  -- as the bytes say
    parts         uuid[]      not null default '{}',       -- of a final upload
    fence         bigint      not null default 0,          -- each lease adds one
    leased_until  timestamptz,                             -- null if the last holder has released its lease
    is_wanted     boolean     not null default false,      -- another request waits for the lease
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    expires_at    timestamptz,
    completed_at  timestamptz,
    constraint uploads_received_check check (received >= 0 and received <= coalesce(size, reserved)),
    constraint uploads_completed_check check (completed_at is null or received = size),
    constraint uploads_expires_check check (expires_at is not null or completed_at is not null)
);
create index uploads_user_idx on uploads (user_id, created_at desc, upload_id desc);
create index uploads_expiry_idx on uploads (expires_at) where expires_at is not null;

-- Objects of the store that no upload names any more. A row goes when the object has been deleted: no crash leaks one.
create table discarded_objects (
    object_id    uuid        primary key,
    discarded_at timestamptz not null default now()
);
create index discarded_objects_idx on discarded_objects (discarded_at);

create function count_uploads() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        insert into user_usage (user_id, upload_rows, upload_bytes) values (new.user_id, 1, new.reserved)
        on conflict (user_id) do update
        set upload_rows = user_usage.upload_rows + 1, upload_bytes = user_usage.upload_bytes + excluded.upload_bytes;
    elsif tg_op = 'DELETE' then  -- perhaps with its user, whose row is then gone
        update user_usage set upload_rows = upload_rows - 1, upload_bytes = upload_bytes - old.reserved
        where user_id = old.user_id;
        insert into discarded_objects (object_id) values (old.object_id) on conflict do nothing;
    else
        if new.reserved <> old.reserved then
            update user_usage set upload_bytes = upload_bytes + new.reserved - old.reserved
            where user_id = new.user_id;
        end if;
        if new.object_id <> old.object_id then
            insert into discarded_objects (object_id) values (old.object_id) on conflict do nothing;
        end if;
    end if;
    return null;
end $$;
create trigger uploads_count after insert or delete or update of reserved, object_id on uploads
    for each row execute function count_uploads();
create trigger uploads_touch before update on uploads for each row execute function touch_updated_at();
