"""The schema of the first release. A database that has its tables and no revision is taken to stand here."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the first release."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Refuse: before this there is nothing."""
    raise NotImplementedError("the first release has no release before it: drop the database instead")
