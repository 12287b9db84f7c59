create view public_names as
    select user_id, case when deleted_at is null then full_name else 'Deleted user' end as name from users;

alter table categories
    add column version integer not null default 1 constraint categories_version_check check (version > 0),
    add column deleted_at timestamptz,
    drop constraint categories_slug_key,
    drop constraint categories_name_key;

-- Names that differ in their case only were two names until now: the younger one gets the beginning of its id.
update categories c set name = left(name, 91) || ' ' || left(category_id::text, 8)
where exists (
    select from categories other
    where lower(other.name) = lower(c.name) and (other.created_at, other.category_id) < (c.created_at, c.category_id));
create unique index categories_slug_key on categories (slug) where deleted_at is null;
create unique index categories_name_key on categories (lower(name)) where deleted_at is null;

alter table content
    add column tags text[] not null default '{}',
    add constraint content_tags_check check (cardinality(tags) <= 10) not valid;

create table content_tags (
    content_id  uuid        not null references content on delete cascade,
    tag         text        collate "C" not null check (length(tag) between 1 and 100),
    category_id uuid,
    status      text        not null,
    listed_at   timestamptz not null,
    primary key (content_id, tag)
);
create index content_tags_list_idx on content_tags (tag, status, listed_at desc, content_id desc);
create index content_tags_category_idx on content_tags (tag, category_id, status, listed_at desc, content_id desc);

create function list_tags() returns trigger language plpgsql as $$
declare
    tags text[] := case when new.deleted_at is null then new.tags else '{}' end;
begin
    if tg_op = 'UPDATE' then
        delete from content_tags where content_id = new.content_id and tag <> all (tags);
    end if;
    insert into content_tags (content_id, tag, category_id, status, listed_at)
    select new.content_id, tag, new.category_id, new.status,
           case new.status when 'published' then new.published_at else new.created_at end
    from unnest(tags) as tag order by tag
    on conflict (content_id, tag) do update
    set category_id = excluded.category_id, status = excluded.status, listed_at = excluded.listed_at;
    return null;
end $$;
create trigger content_tagged after insert on content
    for each row when (new.tags <> '{}') execute function list_tags();
create trigger content_retagged
    after update of tags, category_id, status, published_at, created_at, deleted_at on content
    for each row when (old.tags <> '{}' or new.tags <> '{}') execute function list_tags();

create table tag_counts (
    tag       text    collate "C" primary key,
    published integer not null constraint tag_counts_published_check check (published >= 0)
);
create index tag_counts_list_idx on tag_counts ((- published), tag);

create function count_tag() returns trigger language plpgsql as $$
declare
    was boolean := tg_op <> 'INSERT' and old.status = 'published';
    is_now boolean := tg_op <> 'DELETE' and new.status = 'published';
begin
    if is_now and not was then
        insert into tag_counts values (new.tag, 1)
        on conflict (tag) do update set published = tag_counts.published + 1;
    elsif was and not is_now then
        update tag_counts set published = published - 1 where tag = old.tag;
        delete from tag_counts where tag = old.tag and published = 0;
    end if;
    return null;
end $$;
create trigger content_tags_counted after insert or delete or update of status on content_tags
    for each row execute function count_tag();

create view content_summaries as
    select c.content_id, c.author_id, (select name from public_names where user_id = c.author_id) as author_name,
           c.category_id, category.slug as category_slug, category.name as category_name, c.tags, c.title, c.language,
           c.status, c.version, c.published_at, c.created_at, c.updated_at
    from content c left join lateral (
        select slug, name from categories where category_id = c.category_id and deleted_at is null limit 1) as category
    on true
    where c.deleted_at is null;
