"""Categories whose names differ only in the case of their letters are one: straße and STRASSE, σας and ΣΑΣ.

The release before answers as ever if a name is taken. Each step can be repeated.
"""

from alembic import op

from callboard.ops.migrations.sql import execute

revision = "0245"
down_revision = "0240"

# Of two names that become one the younger gets the beginning of its id.
FOLD = """
create or replace function folded_name(name text) returns text language sql immutable parallel safe as $$
    select lower(upper(replace(replace(normalize(name, nfkc), 'ß', 'ss'), 'ẞ', 'ss')))
$$;
update categories c set name = left(name, 91) || ' ' || left(category_id::text, 8)
where deleted_at is null and exists (
    select from categories other
    where other.deleted_at is null and folded_name(other.name) = folded_name(c.name)
      and (other.created_at, other.category_id) < (c.created_at, c.category_id));
"""


def upgrade() -> None:
    """Make the index beside the one before, which goes then."""
    execute(FOLD)
    _replace("folded_name(name)")


def downgrade() -> None:
    """Make the index of the release before; names stay."""
    _replace("lower(name)")
    execute("drop function folded_name(text)")


def _replace(key: str) -> None:
    definition = f"on categories ({key}) where deleted_at is null"
    with op.get_context().autocommit_block():
        execute("drop index concurrently if exists categories_new_name_key")
        execute(f"create unique index concurrently categories_new_name_key {definition}")
        execute("drop index concurrently if exists categories_name_key")
        execute("alter index categories_new_name_key rename to categories_name_key")
