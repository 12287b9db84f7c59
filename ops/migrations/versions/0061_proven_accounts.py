"""An account belongs to whoever proves its mailbox: registrations that replace each other, step-up, known networks."""

from callboard.ops.migrations.sql import execute

revision = "0061"
down_revision = "0060"


def upgrade() -> None:
    """An unproven account that was mailed more than one link is asked for a new password, whoever typed the first."""
    execute(
        """
        alter table users add column password_needed boolean not null default false,
                          add column unproven_since timestamptz not null default now(),
                          add column registered_from inet;
        create index users_unproven_idx on users (unproven_since) where not is_verified and deleted_at is null;
        update users u set password_needed = true
        where not is_verified and deleted_at is null
          and (select count(*) from mail_tokens t where t.user_id = u.user_id and t.purpose = 'verify_email') > 1;

        alter table sessions add column proved_at timestamptz;
        update sessions set proved_at = created_at;
        alter table sessions alter column proved_at set default now(), alter column proved_at set not null;

        alter table mail_tokens add column session_id uuid;
        alter table mail_tokens
            drop constraint mail_tokens_purpose_check,
            add constraint mail_tokens_purpose_check check (purpose in (
                'verify_email', 'reset_password', 'change_email', 'export', 'undo_email', 'address_taken')),
            drop constraint mail_tokens_new_email_check,
            add constraint mail_tokens_new_email_check
                check ((email is not null) = (purpose in ('change_email', 'undo_email')));

        create table known_networks (
            user_id uuid        not null references users on delete cascade,
            network cidr        not null,
            seen_at timestamptz not null default now(),
            primary key (user_id, network)
        );
        create index known_networks_seen_idx on known_networks (seen_at);
        """
    )


def downgrade() -> None:
    """Links that the release before does not know are good for nothing there."""
    execute(
        """
        drop table known_networks;
        delete from mail_tokens where purpose in ('undo_email', 'address_taken');
        alter table mail_tokens
            drop constraint mail_tokens_purpose_check,
            add constraint mail_tokens_purpose_check check (purpose in (
                'verify_email', 'reset_password', 'change_email', 'export')),
            drop constraint mail_tokens_new_email_check,
            add constraint mail_tokens_new_email_check check ((email is not null) = (purpose = 'change_email')),
            drop column session_id;
        alter table sessions drop column proved_at;
        drop index users_unproven_idx;
        alter table users drop column password_needed, drop column unproven_since, drop column registered_from;
        """
    )
