create table content_attachments (
    content_id  uuid        not null references content on delete cascade,
    upload_id   uuid        not null references uploads on delete cascade,
    attached_at timestamptz not null default now(),
    primary key (content_id, upload_id)
);
create index content_attachments_upload_idx on content_attachments (upload_id);

create table avatars (
    user_id   uuid        primary key references users on delete cascade,
    upload_id uuid        not null references uploads on delete cascade,
    set_at    timestamptz not null default now()
);
create index avatars_upload_idx on avatars (upload_id);

-- A file goes with the last article that it is attached to, unless it is an avatar.
create function delete_attached_upload() returns trigger language plpgsql as $$
begin
    if not exists (select from content where content_id = old.content_id) then
        delete from uploads u where upload_id = old.upload_id
            and not exists (select from content_attachments a where a.upload_id = u.upload_id)
            and not exists (select from avatars v where v.upload_id = u.upload_id);
    end if;
    return null;
end $$;
create trigger content_attachments_delete after delete on content_attachments
    for each row execute function delete_attached_upload();
