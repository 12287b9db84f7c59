"""Keep where the pages of the sitemap begin."""

from callboard.ops.migrations.sql import execute

revision = "0187"
down_revision = "0186"


def upgrade() -> None:
    """Until the first run of the job all articles are on one page."""
    execute("""
        create table sitemap_pages (
            first_at timestamptz not null,
            first_id uuid        not null,
            primary key (first_at, first_id)
        );
    """)


def downgrade() -> None:
    """Forget the pages."""
    execute("drop table sitemap_pages;")
