"""Polls and votes."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.execute("""
        create table polls (
            poll_id   uuid        primary key,
            author_id uuid        not null references users (user_id),
            question  text        not null,
            closed_at timestamptz,
            told_at   timestamptz
        )
    """)
    op.execute("""
        create table poll_votes (
            poll_id uuid        not null references polls (poll_id),
            user_id uuid        references users (user_id),
            option  integer     not null,
            cast_at timestamptz not null default now()
        )
    """)


def downgrade() -> None:
    """Drop them."""
    op.execute("drop table poll_votes")
    op.execute("drop table polls")
