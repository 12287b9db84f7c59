"""Note by which mail server a mail's last copy went, and give the mails of an account one definition."""

from callboard.ops.migrations.sql import execute

revision = "0130"
down_revision = "0101"

MAILS_OF = """
create function mails_of(person uuid) returns table (mail_id uuid) language sql stable as $$
    select m.mail_id from mails m where m.user_id = person
    union all
    select m.mail_id from mails m join users u on lower(u.email) = lower(m.recipient)
         and m.created_at >= u.created_at and m.created_at <= coalesce(u.deleted_at, 'infinity') + interval '1 hour'
    where u.user_id = person and m.user_id is null
$$;
"""


def upgrade() -> None:
    """Add the column, empty, and the function."""
    execute("alter table mails add column relay text check (length(relay) <= 300);")
    execute(MAILS_OF)


def downgrade() -> None:
    """Forget the servers."""
    execute("drop function mails_of(uuid);")
    execute("alter table mails drop column relay;")
