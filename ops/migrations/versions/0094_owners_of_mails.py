"""A mail of ours names the account that it is about, whose address may be another by now."""

from callboard.ops.migrations.sql import execute

revision = "0094"
down_revision = "0091"


def upgrade() -> None:
    """Add the owner. Of mails that have been sent nobody knows it any more: those go by their address, as before."""
    execute("""
        alter table mails add column user_id uuid;
        update mails set user_id = (data ->> 'user_id')::uuid where data ? 'user_id';
        create index mails_user_idx on mails (user_id, mail_id);
    """)


def downgrade() -> None:
    """Forget the owners."""
    execute("alter table mails drop column user_id")
