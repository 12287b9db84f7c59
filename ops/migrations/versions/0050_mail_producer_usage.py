"""Count what each mail producer has had sent, so that its quota holds for all processes together."""

from callboard.ops.migrations.sql import execute

revision = "0050"
down_revision = "0040"


def upgrade() -> None:
    """Add the table."""
    execute("""
        create table mail_producer_usage (
            source       text        primary key check (length(source) <= 400),
            period_start timestamptz not null,
            used         integer     not null check (used > 0)
        );
    """)


def downgrade() -> None:
    """Drop the table: all quotas begin anew."""
    execute("drop table mail_producer_usage;")
