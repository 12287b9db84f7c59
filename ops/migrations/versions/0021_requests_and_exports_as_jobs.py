"""Move unfinished petitions and exports into the job queue, and drop what claimed them."""

from callboard.ops.migrations.sql import execute

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    """Copy what is unfinished, with its age, its trace and its attempts, and drop what claimed it."""
    execute("""
        create index mail_tokens_expiry_idx on mail_tokens (expires_at);

        insert into jobs (kind, priority, run_at, deadline, max_attempts, payload, traceparent, created_at)
        select 'email_request', 0, due_at, created_at + interval '1 hour', 100,
               jsonb_build_object('letter', letter, 'email', email), traceparent, created_at
        from petitions where created_at > now() - interval '1 hour'
        order by due_at, petition_id;
        drop table petitions;

        insert into jobs (kind, priority, run_at, attempts, max_attempts, payload, created_at)
        select 'export', 2, due_at, least(attempts, 2), 3,
               jsonb_build_object('export_id', export_id, 'user_id', user_id), created_at
        from exports where status in ('queued', 'running')
        order by due_at, export_id;
        drop index exports_due_idx;
        alter table exports drop column attempts, drop column due_at;
    """)


def downgrade() -> None:
    """Give them their tables and columns back."""
    execute("""
        drop index mail_tokens_expiry_idx;

        create table petitions (
            petition_id uuid        primary key default gen_random_uuid(),
            letter      text        not null constraint petitions_letter_check
                                    check (letter in ('verify_email', 'reset_password')),
            email       text        not null check (length(email) <= 254),
            traceparent text,
            due_at      timestamptz not null default now(),
            created_at  timestamptz not null default now()
        );
        create index petitions_due_idx on petitions (due_at);
        insert into petitions (letter, email, traceparent, due_at, created_at)
        select payload->>'letter', payload->>'email', traceparent, run_at, created_at
        from jobs where kind = 'email_request';

        alter table exports add column attempts integer not null default 0,
            add column due_at timestamptz not null default now();
        create index exports_due_idx on exports (due_at) where status in ('queued', 'running');
        update exports e set attempts = j.attempts, due_at = j.run_at
        from jobs j where j.kind = 'export' and (j.payload->>'export_id')::uuid = e.export_id;
        delete from jobs where kind in ('email_request', 'export');
    """)
