"""Keep the keys of producers, and their events in the outbox."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0160"
down_revision = "0151"


def upgrade() -> None:
    """Add the table of keys, and to the outbox the id, source and time that a producer gave."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Forget the keys, and producers' events that are still in the outbox."""
    execute("""
        drop table producer_keys;
        delete from outbox where source <> 'callboard';
        alter table outbox drop constraint outbox_ce_id_check;
        alter table outbox drop column source, drop column ce_id, drop column ce_time;
    """)
