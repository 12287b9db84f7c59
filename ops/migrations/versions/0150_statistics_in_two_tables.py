"""Count live events apart from closed hours; keep minimum, maximum and the total of each hour; bound the metrics."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0150"
down_revision = "0140"


def upgrade() -> None:
    """Add the tables, and the total of each hour."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Close all hours, and take their totals back. Minima, maxima and the names of metrics are lost."""
    execute(Path(__file__).with_name(f"{Path(__file__).stem}_back.sql").read_text(encoding="utf-8"))
