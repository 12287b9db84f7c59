"""The department delivery: mails, from the event that asks for one to the mail server, and notifications to users."""

from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.delivery import mail_queue, notification_preferences, notification_recorder, notifications
from callboard.actors.delivery.errors import ERRORS
from callboard.actors.delivery.events import EVENTS, MailRequested, NotificationRequested, TemplatedEmailRequested
from callboard.actors.delivery.mail_message import parse_sender
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_producers import MailProducer, MailProducers, parse_mail_producers
from callboard.actors.delivery.mail_queue import SEND_MAIL, MailQueue
from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.delivery.mail_writer import MailWriter
from callboard.actors.delivery.notification_digest import SCHEDULES, SEND_DIGESTS, DigestSender
from callboard.actors.delivery.notification_preferences import NotificationPreferences, UnsubscribeLinks
from callboard.actors.delivery.notification_recorder import NotificationRecorder
from callboard.actors.delivery.notifications import Notifications
from callboard.actors.delivery.notifier import KINDS, Notifier
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.delivery.smtp_client import SmtpClient, SmtpSettings, Tls, parse_tls
from callboard.actors.department import Branch, Child, Department
from callboard.actors.editorial.events import ContentPublished, ContentRejected
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.refs import Declared, Infrastructure
from callboard.actors.infrastructure.retention import Retain, query_rule
from callboard.actors.settings import SECRET, Host, Line, Parsed, Port, Settings, WebAddress, formerly
from callboard.runtime import Props, pool, worker
from callboard.streams import dead_letters
from callboard.streams.consumers import Consumer
from callboard.streams.topics import CONTENT, MAIL, NOTIFICATIONS, PRIORITY

SMTPS_PORT = 465
API = "/api/v1"

# Dead letters are found by the address of the account, or by its id.
DEAD_LETTERS = PersonalData(
    "dead_letters",
    {"dead_letters": ("key", "value", "headers", "detail")},
    dead_letters.QUERIES.export_dead_letters,
    dead_letters.QUERIES.erase_dead_letters,
)


class DeliverySettings(Settings, frozen=True, kw_only=True):
    """The mail server, and whose mails it gets."""

    smtp_host: Annotated[Host, Meta(description="the SMTP server that sends our mail")]
    smtp_port: Annotated[Port, Meta(description="the port of the SMTP server")] = 587
    smtp_username: Annotated[Line, Meta(description="the user at the SMTP server, if it needs one")] = ""
    smtp_password: Annotated[Line, SECRET, Meta(description="the password at the SMTP server")] = ""
    smtp_tls: Annotated[
        str,
        Parsed(parse_tls),
        formerly("SMTP_STARTTLS"),
        Meta(description="the encryption of SMTP: starttls, implicit (the default on port 465) or none"),
    ] = ""
    mail_producers: Annotated[
        tuple[MailProducer, ...],
        Parsed(parse_mail_producers),
        Meta(
            description="producers that may send mail over Kafka, separated by semicolons: SOURCE QUOTA/PERIOD "
            "DOMAIN,DOMAIN"
        ),
    ] = ()
    mail_from: Annotated[str, Parsed(parse_sender), Meta(description="the sender of our mails")] = (
        "Callboard <no-reply@callboard.localhost>"
    )
    mail_link_url: Annotated[
        WebAddress, Meta(description="the base URL of links in mails, for pages of your own; default: PUBLIC_URL")
    ] = ""

    notifications_per_user: Annotated[
        int, Meta(ge=200, le=100_000, description="notifications of one user that are kept; the oldest go first")
    ] = 1000
    notification_retention_days: Annotated[
        int, Meta(ge=14, le=36_500, description="days to keep notifications; a weekly digest needs more than 7")
    ] = 90

    def __post_init__(self) -> None:
        """Raise ValueError for settings that contradict one another, with a line for each."""
        faults = []
        if self.smtp_port == SMTPS_PORT and self.smtp.tls is Tls.STARTTLS:
            faults.append("SMTP_TLS must be implicit on port 465; or choose another SMTP_PORT")
        if bool(self.smtp_username) is not bool(self.smtp_password):
            faults.append(f"SMTP_{'PASSWORD' if self.smtp_username else 'USERNAME'} is missing: a login needs both")
        if faults:
            raise ValueError("\n".join(faults))

    @property
    def smtp(self) -> SmtpSettings:
        """Return the mail server, with the encryption of the settings or of the port."""
        usual = Tls.IMPLICIT if self.smtp_port == SMTPS_PORT else Tls.STARTTLS
        return SmtpSettings(
            host=self.smtp_host,
            port=self.smtp_port,
            sender=self.mail_from,
            username=self.smtp_username or None,
            password=self.smtp_password or None,
            tls=Tls(self.smtp_tls) if self.smtp_tls else usual,
        )


class DeliveryNeeds(Struct, frozen=True):
    """The needs of delivery."""

    infrastructure: Infrastructure
    declared: Declared


def build(settings: DeliverySettings, needs: DeliveryNeeds) -> Branch[DeliveryRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    producers = MailProducers(settings.mail_producers)
    queue = worker("mail_queue", Props(MailQueue, shared.database, shared.jobs, producers))
    notifier = worker("notifier", Props(Notifier, shared.database))
    kinds = {kind.name: kind for kind in needs.declared.notifications}
    links = UnsubscribeLinks(shared.signer, shared.public_url + API, kinds)
    preferences = pool("preferences", Props(NotificationPreferences, shared.database, kinds, links), size=2)
    lists = pool("notifications", Props(Notifications, shared.database, kinds), size=4)
    new_recorder = Props(NotificationRecorder, shared.database, kinds, keep=settings.notifications_per_user)
    recorder = worker("notification_recorder", new_recorder)
    monitor = MailMonitor(shared.observers.mail)
    writer = MailWriter(shared.signer, settings.mail_from, settings.mail_link_url or shared.public_url, kinds)
    new_sender = Props(MailSender, shared.database.pool("jobs"), writer, SmtpClient(settings.smtp), monitor)
    return Branch(
        refs=DeliveryRefs(producers, lists, preferences, links),
        children=(Child(notifier), Child(queue), Child(recorder), Child(lists), Child(preferences)),
        consumers=(
            Consumer("mail", (MAIL, PRIORITY), (TemplatedEmailRequested, MailRequested), queue, producers.admit),
            Consumer("notifier", (CONTENT,), (ContentPublished, ContentRejected), notifier),
            Consumer(
                notification_recorder.CONSUMER,
                (NOTIFICATIONS,),
                (NotificationRequested,),
                recorder,
                notification_recorder.admits(kinds),
            ),
        ),
        jobs=(job_pool(SEND_MAIL, new_sender), job_pool(SEND_DIGESTS, Props(DigestSender))),
        checks={"smtp": monitor.check},
    )


DELIVERY = Department(
    name="delivery",
    settings=DeliverySettings,
    needs=DeliveryNeeds,
    offers=DeliveryRefs,
    build=build,
    events=EVENTS,
    errors=ERRORS,
    jobs=(SEND_MAIL, SEND_DIGESTS),
    schedules=SCHEDULES,
    notifications=KINDS,
    retention=(
        query_rule("mails", mail_queue.QUERIES.purge_mails, mail_queue.QUERIES.oldest_mail),
        Retain("notifications", "notifications", "created_at", 90, "notification_retention_days"),
    ),
    personal_data=(
        mail_queue.PERSONAL_DATA,
        DEAD_LETTERS,
        notifications.PERSONAL_DATA,
        notification_preferences.PERSONAL_DATA,
    ),
)
