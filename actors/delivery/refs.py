"""The offers of delivery to other departments."""

from msgspec import Struct

from callboard.actors.delivery.mail_producers import MailProducers


class DeliveryRefs(Struct, frozen=True):
    """The programs that may have mails sent. Mails are asked for by events: see streams/README.md."""

    mail_producers: MailProducers
