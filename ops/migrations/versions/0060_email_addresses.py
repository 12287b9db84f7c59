"""Keep every address in its canonical form, and take names of up to 255 characters."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0060"
down_revision = "0051"


def upgrade() -> None:
    """Turn domains in Unicode into A-labels, where no other account has that address."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Leave the addresses: the release before knows them too. Names must be short again."""
    execute(
        """
        alter table users drop constraint users_full_name_check;
        update users set full_name = left(full_name, 200) where length(full_name) > 200;
        alter table users add constraint users_full_name_check check (length(full_name) between 1 and 200);
        """
    )
