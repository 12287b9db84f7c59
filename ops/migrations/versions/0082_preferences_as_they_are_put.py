"""Preferences are stored as they are given back: `jsonb` made 309 digits of 1e308, more than may be put again."""

from callboard.ops.migrations.sql import execute

revision = "0082"
down_revision = "0081"


def upgrade() -> None:
    """Keep the text of each value. The table is written anew: 200,000 profiles take about a second."""
    execute("""
        alter table user_profiles alter column preferences drop default;
        alter table user_profiles alter column preferences type json using preferences::text::json;
        alter table user_profiles alter column preferences set default '{}';
    """)


def downgrade() -> None:
    """Store parsed values again."""
    execute("""
        alter table user_profiles alter column preferences drop default;
        alter table user_profiles alter column preferences type jsonb using preferences::text::jsonb;
        alter table user_profiles alter column preferences set default '{}';
    """)
