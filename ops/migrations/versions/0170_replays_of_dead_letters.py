"""Count the replays of dead letters."""

from callboard.ops.migrations.sql import execute

revision = "0170"
down_revision = "0160"


def upgrade() -> None:
    """Add the counts."""
    execute("""
        alter table dead_letters add column replays integer not null default 0;
        alter table jobs add column replays smallint not null default 0;
        alter table dead_jobs add column replays smallint not null default 0;
    """)


def downgrade() -> None:
    """Forget the counts."""
    execute("""
        alter table dead_letters drop column replays;
        alter table jobs drop column replays;
        alter table dead_jobs drop column replays;
    """)
