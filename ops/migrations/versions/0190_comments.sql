-- The earlier release wrote no comments, so nobody waits for these locks.
alter table comments
    alter column body drop not null,
    alter column body_html drop not null,
    add column parent_id uuid,
    add column depth smallint not null default 0,
    add column replies integer not null default 0,
    add column version integer not null default 1,
    add column edited_at timestamptz,
    add column hidden_at timestamptz,
    add column reported_at timestamptz,
    add constraint comments_parent_id_fkey foreign key (parent_id) references comments on delete cascade not valid,
    add constraint comments_depth_check check (depth >= 0 and (depth = 0) = (parent_id is null)) not valid,
    add constraint comments_replies_check check (replies >= 0) not valid,
    add constraint comments_version_check check (version > 0) not valid,
    add constraint comments_text_check
        check ((body is null) = (body_html is null) and (body is not null or deleted_at is not null)) not valid;
drop trigger comments_touch on comments;
create trigger comments_touch before update of body, body_html, version, deleted_at, hidden_at on comments
    for each row execute function touch_updated_at();

create function is_visible(comment comments) returns boolean language sql immutable as
    'select comment.deleted_at is null and comment.hidden_at is null';

create function is_listed(comment comments) returns boolean language sql immutable as
    'select is_visible(comment) or comment.replies > 0';

create table comment_counts (
    content_id uuid    primary key references content on delete cascade,
    visible    integer not null default 0 constraint comment_counts_visible_check check (visible >= 0)
);

alter table user_usage add column comment_rows bigint not null default 0;

create function count_replies() returns trigger language plpgsql as $$
declare
    change integer := 0;
begin
    if tg_op <> 'DELETE' then
        change := is_listed(new)::integer;
    end if;
    if tg_op <> 'INSERT' then
        change := change - is_listed(old)::integer;
    end if;
    if change <> 0 then
        update comments set replies = replies + change where comment_id = coalesce(new.parent_id, old.parent_id);
    end if;
    return null;
end $$;
create trigger comments_replies after insert or delete or update of deleted_at, hidden_at, replies on comments
    for each row execute function count_replies();

create function count_added_comments() returns trigger language plpgsql as $$
begin
    insert into comment_counts as c (content_id, visible)
    select content_id, count(*) from added where is_visible(added) group by content_id order by content_id
    on conflict (content_id) do update set visible = c.visible + excluded.visible;
    insert into user_usage as u (user_id, comment_rows)
    select author_id, count(*) from added group by author_id order by author_id
    on conflict (user_id) do update set comment_rows = u.comment_rows + excluded.comment_rows;
    return null;
end $$;
create trigger comments_added after insert on comments referencing new table as added
    for each statement execute function count_added_comments();

create function count_changed_comments() returns trigger language plpgsql as $$
declare
    change record;
begin
    for change in
        select content_id, sum(is_visible(n)::integer - is_visible(o)::integer) as visible
        from added n join removed o using (comment_id, content_id)
        where is_visible(n) <> is_visible(o) group by content_id order by content_id
    loop
        update comment_counts set visible = visible + change.visible where content_id = change.content_id;
    end loop;
    return null;
end $$;
create trigger comments_changed after update on comments referencing old table as removed new table as added
    for each statement execute function count_changed_comments();

create function count_removed_comments() returns trigger language plpgsql as $$
declare
    change record;
begin
    for change in
        select content_id, count(*) as visible from removed where is_visible(removed)
        group by content_id order by content_id
    loop
        update comment_counts set visible = visible - change.visible where content_id = change.content_id;
    end loop;
    for change in select author_id, count(*) as rows from removed group by author_id order by author_id loop
        update user_usage set comment_rows = comment_rows - change.rows where user_id = change.author_id;
    end loop;
    return null;
end $$;
create trigger comments_removed after delete on comments referencing old table as removed
    for each statement execute function count_removed_comments();

insert into comment_counts (content_id, visible)
select content_id, count(*) from comments where is_visible(comments) group by content_id;
insert into user_usage as u (user_id, comment_rows)
select author_id, count(*) from comments group by author_id
on conflict (user_id) do update set comment_rows = excluded.comment_rows;

create table comment_reports (
    report_id   bigint      generated always as identity primary key,
    comment_id  uuid        not null references comments on delete cascade,
    reporter_id uuid        not null references users on delete cascade,
    reason      text        not null constraint comment_reports_reason_check
                            check (reason in ('spam', 'abuse', 'off_topic', 'other')),
    note        text        check (length(note) <= 500),
    created_at  timestamptz not null default now(),
    closed_at   timestamptz,
    constraint comment_reports_reporter_key unique (comment_id, reporter_id)
);
create index comment_reports_reporter_idx on comment_reports (reporter_id);
create index comment_reports_open_idx on comment_reports (comment_id, report_id) where closed_at is null;

create table comment_moderations (
    moderation_id bigint      generated always as identity primary key,
    comment_id    uuid        not null references comments on delete cascade,
    actor_id      uuid        not null references users,
    action        text        not null constraint comment_moderations_action_check
                              check (action in ('hide', 'show', 'edit', 'delete')),
    reason        text        check (length(reason) <= 500),
    created_at    timestamptz not null default now()
);
create index comment_moderations_comment_idx on comment_moderations (comment_id, moderation_id);
create index comment_moderations_actor_idx on comment_moderations (actor_id);
