"""Sanitised HTML is bounded. A larger text of an earlier release shows its source, until its author edits it."""

from callboard.ops.migrations.sql import execute

revision = "0080"
down_revision = "0071"


def upgrade() -> None:
    """Bound `body_html`; the bodies stay as they are."""
    for table, bound in (("content", 2_000_000), ("comments", 100_000)):
        execute(f"""
            alter table {table} disable trigger {table}_touch;
            update {table}
            set body_html = replace(replace(replace(body, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')
            where octet_length(body_html) > {bound};
            alter table {table} enable trigger {table}_touch;
            alter table {table} add constraint {table}_body_html_check check (octet_length(body_html) <= {bound});
        """)  # noqa: S608 - our own names


def downgrade() -> None:
    """Bound nothing."""
    execute("""
        alter table content drop constraint content_body_html_check;
        alter table comments drop constraint comments_body_html_check;
    """)
