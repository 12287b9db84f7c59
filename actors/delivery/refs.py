"""The offers of delivery to other departments."""

from msgspec import Struct

from callboard.actors.delivery.mail_producers import MailProducers


class DeliveryRefs(Struct, frozen=True):
    """The mail producers. Mails are requested by events: see streams/README.md."""

    mail_producers: MailProducers
