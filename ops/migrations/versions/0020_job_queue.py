"""Add the job queue: jobs, how they ended, dead letters, what operators set for kinds, and schedules."""

from pathlib import Path

from callboard.ops.migrations.sql import execute

revision = "0020"
down_revision = "0010"


def upgrade() -> None:
    """Make the tables."""
    execute(Path(__file__).with_suffix(".sql").read_text(encoding="utf-8"))


def downgrade() -> None:
    """Drop them, with all jobs that wait."""
    execute("drop table schedules, job_kinds, dead_jobs, finished_jobs, jobs; drop sequence job_leases;")
