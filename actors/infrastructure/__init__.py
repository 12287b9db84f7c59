"""Infrastructure: the database, Redis, the job queue, schedules, limits, flags, keys and the audit log."""
