"""Erase from the audit log the origin of failed logins too: most of them are the person's own."""

from callboard.ops.migrations.sql import execute

revision = "0099"
down_revision = "0098"

ERASE = """
create or replace function erase_from_audit_log(person uuid) returns bigint
    language plpgsql set callboard.audit_maintenance = 'on' as $$
declare
    changed bigint;
begin
    update audit_log set ip = null, user_agent = null
    where {whose} and (ip is not null or user_agent is not null);
    get diagnostics changed = row_count;
    update audit_log set detail = detail - '{{email,old_email,new_email}}'::text[]
    where user_id = person and detail ?| '{{email,old_email,new_email}}';
    return changed;
end $$;
"""


def upgrade() -> None:
    """Erase the origin of what the person did, and of attempts on the person's account."""
    execute(ERASE.format(whose="(actor_id = person or (user_id = person and actor = 'anonymous'))"))


def downgrade() -> None:
    """Erase the origin of what the person did, as before."""
    execute(ERASE.format(whose="actor_id = person"))
