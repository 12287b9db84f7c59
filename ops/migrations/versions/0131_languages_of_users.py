"""Note in which languages each user reads mails."""

from callboard.ops.migrations.sql import execute

revision = "0131"
down_revision = "0130"


def upgrade() -> None:
    """Nobody has said one yet: mails stay in English."""
    execute(
        "alter table user_profiles add column languages text[] not null default '{}' "
        "constraint user_profiles_languages_check check (cardinality(languages) <= 5);"
    )


def downgrade() -> None:
    """Forget the languages."""
    execute("alter table user_profiles drop column languages;")
