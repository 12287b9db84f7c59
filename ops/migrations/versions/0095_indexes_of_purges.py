"""Each purge finds what is due by an index, however large its table is."""

from callboard.ops.migrations.sql import execute

revision = "0095"
down_revision = "0094"


def upgrade() -> None:
    """Add the indexes."""
    execute("""
        create index mails_age_idx on mails (updated_at) where status in ('sent', 'dead', 'expired');
        create index mail_tokens_export_idx on mail_tokens (expires_at) where purpose = 'export';
        create index mail_tokens_exported_idx on mail_tokens (used_at) where purpose = 'export' and used_at is not null;
        create index dead_letters_age_idx on dead_letters (created_at);
    """)


def downgrade() -> None:
    """Take them away."""
    execute("drop index mails_age_idx, mail_tokens_export_idx, mail_tokens_exported_idx, dead_letters_age_idx")
