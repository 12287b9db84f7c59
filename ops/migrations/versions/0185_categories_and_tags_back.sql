drop view content_summaries;
drop trigger content_tagged on content;
drop trigger content_retagged on content;
drop table content_tags;
drop table tag_counts;
drop function list_tags();
drop function count_tag();
alter table content drop column tags;
delete from categories where deleted_at is not null;
drop index categories_slug_key;
drop index categories_name_key;
alter table categories
    drop column deleted_at,
    drop column version,
    add constraint categories_slug_key unique (slug),
    add constraint categories_name_key unique (name);
drop view public_names;
