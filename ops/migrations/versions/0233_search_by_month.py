"""The index of the search knows the months of articles, made while they are read and written.

Nothing but the first step is in a transaction, so each of the others can be repeated.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0233"
down_revision = "0232"

MONTH_OF = """
create extension if not exists btree_gin;
create or replace function month_of(moment timestamptz) returns integer language sql immutable parallel safe as $$
    select (extract(year from moment at time zone 'UTC') * 12
            + extract(month from moment at time zone 'UTC'))::integer
$$;
"""


def upgrade() -> None:
    """Make the index beside the one before, which is searched until then."""
    execute(MONTH_OF)
    _replace("(search, month_of(published_at))")


def downgrade() -> None:
    """Make the index of the release before."""
    _replace("(search)")
    execute("drop function month_of(timestamptz); drop extension btree_gin")


def _replace(columns: str) -> None:
    definition = f"on content using gin {columns} where status = 'published'"
    with op.get_context().autocommit_block():
        execute("drop index concurrently if exists content_search_new_idx")
        execute(f"create index concurrently content_search_new_idx {definition}")
        execute("drop index concurrently if exists content_search_idx")
        execute("alter index content_search_new_idx rename to content_search_idx")
        execute("analyze content")
