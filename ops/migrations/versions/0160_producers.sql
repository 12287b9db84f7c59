alter table outbox add column source text not null default 'callboard', add column ce_id text, add column ce_time timestamptz;
alter table outbox add constraint outbox_ce_id_check check ((ce_id is null) = (source = 'callboard'));

create table producer_keys (
    key_id          uuid        primary key,
    name            text        not null check (length(name) between 1 and 100),
    secret_hash     bytea       not null check (octet_length(secret_hash) = 32),
    types           text[]      not null,
    sources         text[]      not null,
    hourly_events   bigint      not null check (hourly_events > 0),
    hourly_bytes    bigint      not null check (hourly_bytes > 0),
    created_at      timestamptz not null default now(),
    used_at         timestamptz,
    revoked_at      timestamptz,
    period          timestamptz,
    used_events     bigint      not null default 0,
    used_bytes      bigint      not null default 0,
    previous_events bigint      not null default 0,
    previous_bytes  bigint      not null default 0
) with (fillfactor = 70);   -- each request updates its key's row
create unique index producer_keys_name_key on producer_keys (lower(name)) where revoked_at is null;
create index producer_keys_created_idx on producer_keys (created_at desc, key_id desc);
create index producer_keys_revoked_idx on producer_keys (revoked_at) where revoked_at is not null;
