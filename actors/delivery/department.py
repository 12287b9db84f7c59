"""The department delivery: mails, from the event that asks for one to the mail server, and notifications to users."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from callboard.actors.delivery import mail_queue, notification_preferences, notification_recorder, notifications
from callboard.actors.delivery.errors import ERRORS
from callboard.actors.delivery.events import (
    EVENTS,
    MAIL,
    NOTIFICATIONS,
    PRIORITY,
    MailRequested,
    NotificationRequested,
    TemplatedEmailRequested,
)
from callboard.actors.delivery.mail_message import parse_sender
from callboard.actors.delivery.mail_monitor import Count as CountResult
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_producers import MailProducer, MailProducers, parse_mail_producers
from callboard.actors.delivery.mail_queue import SEND_MAIL, MailQueue
from callboard.actors.delivery.mail_sender import MailSender
from callboard.actors.delivery.mail_servers import MailServer
from callboard.actors.delivery.mail_templates import loaded_templates, our_templates, parse_template_folder
from callboard.actors.delivery.mail_writer import MailWriter
from callboard.actors.delivery.notification_digest import SCHEDULES, SEND_DIGESTS, DigestSender
from callboard.actors.delivery.notification_preferences import NotificationPreferences, UnsubscribeLinks
from callboard.actors.delivery.notification_recorder import NotificationRecorder
from callboard.actors.delivery.notification_streams import CHANNEL, Bounds, NotificationStreams, StreamWatcher
from callboard.actors.delivery.notifications import Notifications
from callboard.actors.delivery.notifier import KINDS, Notifier
from callboard.actors.delivery.refs import DeliveryRefs
from callboard.actors.delivery.smtp_settings import ConnectionLimits, SmtpSettings, Tls, parse_tls
from callboard.actors.department import Branch, Child, Department, Role
from callboard.actors.editorial.events import CONTENT, ContentPublished, ContentRejected
from callboard.actors.identity.refs import IdentityRefs
from callboard.actors.infrastructure.circuit_breaker import CircuitBreaker
from callboard.actors.infrastructure.hints import Hints
from callboard.actors.infrastructure.job_kinds import job_pool
from callboard.actors.infrastructure.personal_data import PersonalData
from callboard.actors.infrastructure.refs import Declared, Infrastructure
from callboard.actors.infrastructure.retention import Retain, query_rule
from callboard.actors.infrastructure.worker_renewal import RenewalLimits
from callboard.actors.settings import (
    SECRET,
    Count,
    Host,
    Line,
    Parsed,
    Port,
    Seconds,
    Settings,
    WebAddress,
    formerly,
    in_vault,
)
from callboard.runtime import Props, pool, worker
from callboard.streams import dead_letters
from callboard.streams.consumers import Consumer

SMTPS_PORT = 465
API = "/api/v1"
SERVER = ("host", "port", "username", "password", "tls")  # the settings of a mail server

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
    smtp_password: Annotated[
        Line,
        SECRET,
        in_vault("smtp_password", "api_keys/sendgrid"),
        Meta(description="the password at the SMTP server"),
    ] = ""
    smtp_tls: Annotated[
        str,
        Parsed(parse_tls),
        formerly("SMTP_STARTTLS"),
        Meta(description="the encryption of SMTP: starttls, implicit (the default on port 465) or none"),
    ] = ""
    smtp_fallback_host: Annotated[
        Host | None, Meta(description="a second SMTP server, for mails that the first cannot take")
    ] = None
    smtp_fallback_port: Annotated[Port, Meta(description="the port of the second SMTP server")] = 587
    smtp_fallback_username: Annotated[Line, Meta(description="the user at the second SMTP server")] = ""
    smtp_fallback_password: Annotated[Line, SECRET, Meta(description="the password at the second SMTP server")] = ""
    smtp_fallback_tls: Annotated[
        str, Parsed(parse_tls), Meta(description="the encryption of the second SMTP server, as SMTP_TLS")
    ] = ""
    smtp_connection_mails: Annotated[Count, Meta(description="mails over one SMTP connection, at most")] = 100
    smtp_connection_age_s: Annotated[Seconds, Meta(description="the age in seconds of an SMTP connection, at most")] = (
        300
    )
    smtp_connection_idle_s: Annotated[
        Seconds, Meta(description="seconds after which an SMTP connection without a mail is closed")
    ] = 30
    mail_worker_max_jobs: Annotated[Count, Meta(description="mails after which a mail worker is replaced")] = 1000
    mail_worker_max_growth_mb: Annotated[
        Count, Meta(description="megabytes of growth of the process after which a mail worker is replaced")
    ] = 256
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
    mail_templates: Annotated[
        str, Parsed(parse_template_folder), Meta(description="the folder of your own mail templates")
    ] = ""
    mail_link_url: Annotated[
        WebAddress, Meta(description="the base URL of links in mails, for pages of your own; default: PUBLIC_URL")
    ] = ""

    notifications_per_user: Annotated[
        int, Meta(ge=200, le=100_000, description="notifications of one user that are kept; the oldest go first")
    ] = 1000
    notification_retention_days: Annotated[
        int, Meta(ge=14, le=36_500, description="days to keep notifications; a weekly digest needs more than 7")
    ] = 90

    notification_streams_per_user: Annotated[
        Count, Meta(description="open streams of notifications of one user, in each process")
    ] = 10
    notification_streams_per_address: Annotated[
        Count, Meta(description="open streams of notifications of one address, in each process")
    ] = 200

    def __post_init__(self) -> None:
        """Raise ValueError for settings that contradict one another, with a line for each."""
        faults = []
        for name, server in (("SMTP", self.smtp), ("SMTP_FALLBACK", self.smtp_fallback)):
            if server is None:
                continue
            if server.port == SMTPS_PORT and server.tls is Tls.STARTTLS:
                faults.append(f"{name}_TLS must be implicit on port 465; or choose another {name}_PORT")
            if bool(server.username) is not bool(server.password):
                missing = "PASSWORD" if server.username else "USERNAME"
                faults.append(f"{name}_{missing} is missing: a login needs both")
        if self.smtp_fallback is not None and self.smtp_fallback.name == self.smtp.name:
            faults.append("SMTP_FALLBACK_HOST must be another server than SMTP_HOST")
        if faults:
            raise ValueError("\n".join(faults))

    @property
    def stream_bounds(self) -> Bounds:
        """Return the bounds on streams of notifications."""
        return Bounds(self.notification_streams_per_user, self.notification_streams_per_address)

    @property
    def smtp(self) -> SmtpSettings:
        """Return the mail server."""
        return _server(self.smtp_host, self.smtp_port, self.smtp_username, self.smtp_password, self.smtp_tls)

    @property
    def smtp_fallback(self) -> SmtpSettings | None:
        """Return the second mail server; None if there is none."""
        if self.smtp_fallback_host is None:
            return None
        return _server(
            self.smtp_fallback_host,
            self.smtp_fallback_port,
            self.smtp_fallback_username,
            self.smtp_fallback_password,
            self.smtp_fallback_tls,
        )

    @property
    def connection_limits(self) -> ConnectionLimits:
        """Return the limits of each SMTP connection."""
        return ConnectionLimits(self.smtp_connection_mails, self.smtp_connection_age_s, self.smtp_connection_idle_s)

    @property
    def renewal(self) -> RenewalLimits:
        """Return the limits of the life of a mail worker."""
        return RenewalLimits(self.mail_worker_max_jobs, self.mail_worker_max_growth_mb << 20)


def _server(host: str, port: int, username: str, password: str, tls: str) -> SmtpSettings:
    """Return a mail server, with the encryption of the settings or of the port."""
    usual = Tls.IMPLICIT if port == SMTPS_PORT else Tls.STARTTLS
    return SmtpSettings(host, port, username or None, password or None, Tls(tls) if tls else usual)


class DeliveryNeeds(Struct, frozen=True):
    """The needs of delivery."""

    infrastructure: Infrastructure
    declared: Declared
    identity: IdentityRefs


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
    streams = NotificationStreams(shared.database, kinds, settings.stream_bounds, shared.signer.access_ttl_s)
    new_recorder = Props(
        NotificationRecorder, shared.database, kinds, keep=settings.notifications_per_user, ring=streams.ring
    )
    recorder = worker("notification_recorder", new_recorder)
    templates = loaded_templates(Path(settings.mail_templates)) if settings.mail_templates else our_templates()
    servers = create_servers(settings, shared.observers.mail)
    writer = MailWriter(
        shared.signer, settings.mail_from, settings.mail_link_url or shared.public_url, links, templates
    )
    new_sender = Props(MailSender, shared.database.pool("jobs"), writer, tuple(servers.values()), settings.renewal)
    return Branch(
        refs=DeliveryRefs(producers, lists, streams, preferences, links),
        children=(
            *(Child(node) for node in (notifier, queue, recorder, lists, preferences)),
            *_stream_children(streams, needs),
        ),
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
        checks={name: server.monitor.check for name, server in servers.items()},
        breakers=[server.breaker for server in servers.values()],
        figures=streams.figures,
        live=dict.fromkeys(_live_settings(servers), partial(_adopt_servers, servers)),
    )


def _live_settings(servers: Mapping[str, MailServer]) -> list[str]:
    """Return the settings of mail servers that change while it runs; a second server comes and goes at a restart."""
    names = [f"{name}_{part}" for name in servers for part in SERVER]
    return [name for name in names if name != "smtp_fallback_host"]


def _adopt_servers(servers: Mapping[str, MailServer], settings: DeliverySettings) -> None:
    """Send the next mails with the new addresses and logins."""
    for name, found in (("smtp", settings.smtp), ("smtp_fallback", settings.smtp_fallback)):
        if name in servers and found is not None:
            servers[name].settings = found


def _stream_children(streams: NotificationStreams, needs: DeliveryNeeds) -> tuple[Child, ...]:
    """Return the actors that wake streams: each process announces what it records, those with streams listen."""
    database = needs.infrastructure.database.pool("operators")
    announces = Props(Hints, database, streams, listens=False, channel=CHANNEL, what="notifications")
    hears = Props(Hints, database, streams, listens=True, tells=False, channel=CHANNEL, what="notifications")
    watches = Props(StreamWatcher, streams, needs.identity.living_sessions.ended_among)
    return (
        Child(worker("stream_announcer", announces)),
        Child(worker("stream_listener", hears), Role.FRONT),
        Child(worker("stream_watcher", watches), Role.FRONT),
    )


def create_servers(settings: DeliverySettings, count: CountResult) -> dict[str, MailServer]:
    """Return the mail servers by the names of their checks, in the order in which a mail tries them."""
    found = {"smtp": ("mail server", settings.smtp), "smtp_fallback": ("second mail server", settings.smtp_fallback)}
    return {
        name: MailServer(
            server,
            MailMonitor(count, server=word),
            limits=settings.connection_limits,
            breaker=CircuitBreaker(name),
        )
        for name, (word, server) in found.items()
        if server is not None
    }


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
