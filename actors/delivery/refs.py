"""The offers of delivery to other departments and to its routes."""

from msgspec import Struct

from callboard.actors.delivery.mail_producers import MailProducers
from callboard.actors.delivery.notification_preferences import (
    GetPreferences,
    ReplacePreferences,
    Unsubscribe,
    UnsubscribeLinks,
)
from callboard.actors.delivery.notification_streams import NotificationStreams
from callboard.actors.delivery.notifications import NotificationMessage
from callboard.runtime import Ref


class DeliveryRefs(Struct, frozen=True):
    """The mail producers, and the notifications of users. Both mails and notifications are requested by events: see
    streams/README.md.
    """

    mail_producers: MailProducers
    notifications: Ref[NotificationMessage]
    streams: NotificationStreams
    preferences: Ref[GetPreferences | ReplacePreferences | Unsubscribe]
    unsubscribe_links: UnsubscribeLinks
