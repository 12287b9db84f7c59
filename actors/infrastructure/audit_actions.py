"""The security events of infrastructure, and of what operators do to a running process."""

from callboard.actors.infrastructure.audit_log import declare_action

FLAG_CHANGED = declare_action("flag.changed")
SETTINGS_CHANGED = declare_action("settings.changed")
POOL_RESIZED = declare_action("pool.resized")
JOB_REPLAYED = declare_action("job.replayed")
JOB_CANCELLED = declare_action("job.cancelled")
JOB_DISCARDED = declare_action("job.discarded")
JOB_CHANGED = declare_action("job.changed")
JOB_KIND_CHANGED = declare_action("job.kind_changed")
JOB_SCHEDULE_CHANGED = declare_action("job.schedule_changed")
DEAD_LETTER_REPLAYED = declare_action("dead_letter.replayed")
DEAD_LETTER_DROPPED = declare_action("dead_letter.dropped")
