"""${message}."""

from callboard.ops.migrations.sql import execute

revision = "${up_revision}"
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Say what the new release needs. Rows that are there must survive it."""
    execute("""
""")


def downgrade() -> None:
    """Take it back; name what is lost."""
    execute("""
""")
