"""Refuse changes of the audit log as a fault of the program: a missing privilege is waited for."""

from callboard.ops.migrations.sql import execute

revision = "0098"
down_revision = "0097"

REFUSE = """
create or replace function refuse_audit_change() returns trigger language plpgsql as $$
begin
    if current_setting('callboard.audit_maintenance', true) = 'on' then
        return case tg_op when 'DELETE' then old else new end;
    end if;
    raise exception 'audit_log is append-only';
end $$;
"""
TEXT = "'audit_log is append-only'"


def upgrade() -> None:
    """Raise P0001."""
    execute(REFUSE)


def downgrade() -> None:
    """Raise insufficient_privilege, as before."""
    execute(REFUSE.replace(TEXT, f"{TEXT} using errcode = 'insufficient_privilege'"))
