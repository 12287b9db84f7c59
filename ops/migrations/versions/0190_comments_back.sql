drop table comment_moderations, comment_reports, comment_counts;
drop trigger comments_added on comments;
drop trigger comments_changed on comments;
drop trigger comments_removed on comments;
drop trigger comments_replies on comments;
drop trigger comments_touch on comments;
drop function count_added_comments(), count_changed_comments(), count_removed_comments(), count_replies();
drop function is_listed(comments), is_visible(comments);
delete from comments where parent_id is not null or body is null or hidden_at is not null;
alter table comments
    drop constraint comments_parent_id_fkey,
    drop constraint comments_depth_check,
    drop constraint comments_replies_check,
    drop constraint comments_version_check,
    drop constraint comments_text_check,
    drop column parent_id,
    drop column depth,
    drop column replies,
    drop column version,
    drop column edited_at,
    drop column hidden_at,
    drop column reported_at,
    alter column body set not null,
    alter column body_html set not null;
create trigger comments_touch before update on comments for each row execute function touch_updated_at();
alter table user_usage drop column comment_rows;
