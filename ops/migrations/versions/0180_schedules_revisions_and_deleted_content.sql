alter table content
    add column publish_at timestamptz,
    add column expire_at timestamptz,
    add column deleted_at timestamptz,
    add column revision integer not null default 1,
    add column edited_at timestamptz,
    add constraint content_publish_at_check
        check (publish_at is null or (status = 'approved' and deleted_at is null)) not valid,
    add constraint content_expire_at_check check (
        expire_at is null or status = 'published'
        or (publish_at is not null and expire_at > publish_at)) not valid,
    add constraint content_deleted_at_check check (deleted_at is null or status <> 'published') not valid;

alter table content_transitions
    drop constraint content_transitions_action_check,
    add constraint content_transitions_action_check check (action in ('submit_for_review', 'approve', 'reject', 'publish', 'archive',
        'restore', 'edit', 'schedule', 'unschedule', 'delete', 'undelete')) not valid;

create table content_revisions (
    content_id  uuid        not null references content on delete cascade,
    revision    integer     not null,
    author_id   uuid        not null references users,
    editor_id   uuid        not null references users,
    category_id uuid,
    title       text        not null,
    body        text        not null,
    language    text        not null,
    tags        text[]      not null default '{}',
    written_at  timestamptz not null,
    replaced_at timestamptz not null default now(),
    primary key (content_id, revision)
);
create index content_revisions_author_idx on content_revisions (author_id, replaced_at, content_id, revision);
create index content_revisions_editor_idx on content_revisions (editor_id, content_id, revision);

alter table user_usage add column revision_bytes bigint not null default 0;

create function count_revision() returns trigger language plpgsql as $$
declare
    counted    content_revisions := coalesce(new, old);
    byte_count bigint := octet_length(counted.title) + octet_length(counted.body);
begin
    if tg_op = 'DELETE' then
        byte_count := -byte_count;
    end if;
    insert into user_usage (user_id, revision_bytes) values (counted.author_id, byte_count)
    on conflict (user_id) do update set revision_bytes = user_usage.revision_bytes + excluded.revision_bytes;
    return null;
end $$;
create trigger content_revisions_usage after insert or delete on content_revisions
    for each row execute function count_revision();
