"""Store the texts of articles apart from what lists and searches read of them.

No row is rewritten: an article's text moves when the article changes.
"""

from callboard.ops.migrations.sql import execute

revision = "0240"
down_revision = "0233"


def upgrade() -> None:
    """Keep titles and tags in the row, and move what else makes it longer than 256 bytes."""
    execute("""
        alter table content alter column title set storage main, alter column tags set storage main;
        alter table content set (toast_tuple_target = 256);
    """)


def downgrade() -> None:
    """Store new rows as before."""
    execute("""
        alter table content reset (toast_tuple_target);
        alter table content alter column title set storage extended, alter column tags set storage extended;
    """)
