"""The department delivery: mails, from the event that asks for one to the mail server."""

from msgspec import Struct

from callboard.actors.delivery import mail_queue
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_producers import MailProducer, MailProducers
from callboard.actors.delivery.mail_queue import SEND_MAIL, MailQueue
from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.delivery.mail_writer import MailWriter
from callboard.actors.delivery.notifier import Notifier
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.delivery.smtp_client import SmtpClient, SmtpSettings
from callboard.actors.department import Branch, Child, Department
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.infrastructure.retention import table_rule
from callboard.runtime import Props, worker
from callboard.streams import dead_letters
from callboard.streams.consumers import Consumer
from callboard.streams.event_types import (
    MAIL_EVENTS,
    ContentPublished,
    ContentRejected,
    MailRequested,
    TemplatedEmailRequested,
)
from callboard.streams.topics import CONTENT, MAIL, PRIORITY

# Dead letters are found by the address of the account, or by its id.
DEAD_LETTERS = PersonalData(
    "dead_letters",
    {"dead_letters": ("key", "value", "headers", "detail")},
    dead_letters.QUERIES.export_dead_letters,
    dead_letters.QUERIES.erase_dead_letters,
)


class DeliverySettings(Struct, frozen=True, kw_only=True):
    """Settings of delivery."""

    smtp: SmtpSettings
    mail_from: str
    link_url: str
    mail_producers: tuple[MailProducer, ...] = ()


class DeliveryNeeds(Struct, frozen=True):
    """The needs of delivery."""

    infrastructure: Infrastructure


def build(settings: DeliverySettings, needs: DeliveryNeeds) -> Branch[DeliveryRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    producers = MailProducers(settings.mail_producers)
    queue = worker("mail_queue", Props(MailQueue, shared.database, shared.jobs, producers))
    notifier = worker("notifier", Props(Notifier, shared.database))
    monitor = MailMonitor(shared.observers.mail)
    writer = MailWriter(shared.signer, settings.mail_from, settings.link_url)
    new_sender = Props(MailSender, shared.database.pool("jobs"), writer, SmtpClient(settings.smtp), monitor)
    return Branch(
        refs=DeliveryRefs(producers),
        children=(Child(notifier), Child(queue)),
        consumers=(
            Consumer("mail", (MAIL, PRIORITY), (TemplatedEmailRequested, MailRequested), queue, producers.admit),
            Consumer("notifier", (CONTENT,), (ContentPublished, ContentRejected), notifier),
        ),
        jobs=(job_pool(SEND_MAIL, new_sender),),
        retention=(table_rule("mails"),),
        checks={"smtp": monitor.check},
    )


DELIVERY = Department(
    name="delivery",
    settings=DeliverySettings,
    needs=DeliveryNeeds,
    offers=DeliveryRefs,
    build=build,
    events=MAIL_EVENTS,
    jobs=(SEND_MAIL,),
    personal_data=(mail_queue.PERSONAL_DATA, DEAD_LETTERS),
)
