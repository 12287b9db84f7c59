"""Views by which a department reads what another one owns.

The release before goes on reading the tables.
"""

from callboard.ops.migrations.sql import execute

revision = "0246"
down_revision = "0245"

VIEWS = """
create view accounts as
    select user_id, email, full_name, role, is_verified, is_active, deleted_at is not null as is_deleted,
           (select languages from user_profiles where user_id = u.user_id) as languages
    from users u;
create view mail_links as
    select token_id, user_id, purpose, token_hash, email from mail_tokens;
create view content_steps as
    select t.transition_id, t.content_id, t.action, t.note, t.created_at, c.author_id, c.title
    from content_transitions t join content c using (content_id)
    where c.deleted_at is null;
create view quota_usage as
    select user_id, content_rows, content_bytes, revision_bytes, comment_rows, upload_rows, upload_bytes
    from user_usage;
create view open_user_jobs as
    select job_id from user_jobs where state in ('waiting', 'running');
create view held_jobs as
    select job_id, lease_id from jobs;
"""


def upgrade() -> None:
    """Make the views."""
    execute(VIEWS)


def downgrade() -> None:
    """Drop them."""
    execute("drop view accounts, mail_links, content_steps, quota_usage, open_user_jobs, held_jobs")
