"""The event of the infrastructure: what becomes of a user's job."""

from uuid import UUID

from callboard.runtime import Message
from callboard.streams.event_types import Name, declare_event
from callboard.streams.topics import declare_topic

PROCESSING = declare_topic("processing.v1", "job id", "heavy jobs of users: what becomes of them", deadline_s=6 * 3600)


class UserJobChanged(Message, frozen=True):
    """A user's heavy job is waiting, done, failed or cancelled."""

    job_id: UUID
    kind: Name
    user_id: UUID
    state: Name


JOB_EVENTS = (declare_event("job.changed", UserJobChanged, "job_id", PROCESSING),)
