"""The indexes, states and constraints of 0081, made while the tables are read and written.

Nothing here is in a transaction, so each step can be repeated: an index whose build was interrupted is made anew.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0101"
down_revision = "0100"

PUBLISHED = "published_at desc, content_id desc) where status = 'published'"
INDEXES = {
    "content_published_idx": f"on content ({PUBLISHED}",
    "content_author_published_idx": f"on content (author_id, {PUBLISHED}",
    "content_category_published_idx": f"on content (category_id, {PUBLISHED}",
    "content_status_idx": "on content (status, created_at desc, content_id desc)",
    "content_author_idx": "on content (author_id, status, created_at desc, content_id desc)",
    "content_category_idx": "on content (category_id, status, created_at desc, content_id desc)",
    "content_editor_idx": "on content (last_edited_by) where last_edited_by is not null",
    "comments_content_idx": "on comments (content_id, created_at, comment_id)",
    "sessions_owner_idx": "on sessions (user_id)",
    "comments_author_idx": "on comments (author_id)",
    "content_transitions_actor_idx": "on content_transitions (actor_id)",
    "subscriptions_owner_idx": "on subscriptions (user_id)",
    "users_role_idx": "on users (role, created_at desc, user_id desc) where deleted_at is null",
    "users_active_idx": "on users (created_at desc, user_id desc) where is_active and deleted_at is null",
    "users_inactive_idx": "on users (created_at desc, user_id desc) where not is_active and deleted_at is null",
    "users_unverified_idx": "on users (created_at desc, user_id desc) where not is_verified and deleted_at is null",
}
# In batches: each keeps out writers for some milliseconds, and readers never. A job makes `search` anew, not this.
PENDING = """
    do $$ begin
        loop
            alter table content disable trigger content_touch, disable trigger content_search;
            update content set status = 'pending_review'
            where content_id in (select content_id from content where status = 'pending' limit 500);
            exit when not found;
            alter table content enable trigger content_touch, enable trigger content_search;
            commit;
        end loop;
        alter table content enable trigger content_touch, enable trigger content_search;
    end $$;
"""
STATUSES = """
    alter table content drop constraint content_status_check;
    alter table content add constraint content_status_check
        check (status in ('draft', 'pending_review', 'approved', 'published', 'archived')) not valid;
"""
CONSTRAINTS = ("content_status_check", "content_last_edited_by_fkey", "content_language_check")


def upgrade() -> None:
    """Make the indexes one by one, change the articles in batches, and validate the constraints."""
    with op.get_context().autocommit_block():
        execute("drop index concurrently if exists content_created_idx")
        for name, definition in INDEXES.items():
            execute(f"drop index concurrently if exists {name}")
            execute(f"create index concurrently {name} {definition}")
        execute(PENDING)
        execute(STATUSES)
        for name in CONSTRAINTS:
            execute(f"alter table content validate constraint {name}")


def downgrade() -> None:
    """Keep them: 0081 takes them back."""
