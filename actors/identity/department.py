"""The department identity: accounts, sessions, passwords, profiles, and the rights of persons over their data."""

from functools import partial
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from callboard.actors.department import Branch, Child, Department
from callboard.actors.identity import accounts, data_export
from callboard.actors.identity import profiles as profile_data
from callboard.actors.identity import sessions as session_data
from callboard.actors.identity.active_users import ActiveUsers
from callboard.actors.identity.authentication import ACCOUNT, ACCOUNT_TOTAL, Logins
from callboard.actors.identity.data_export import (
    EXPORTS_PER_HOUR,
    MAKE_EXPORT,
    MAX_ARCHIVE_BYTES,
    Exports,
    ExportWorker,
)
from callboard.actors.identity.email_requests import EMAIL_REQUEST, EmailRequests, EmailRequestWorker
from callboard.actors.identity.email_verification import QUERIES as MAIL_TOKENS
from callboard.actors.identity.email_verification import RegistrationPolicy
from callboard.actors.identity.erasure import erase_due
from callboard.actors.identity.errors import ERRORS
from callboard.actors.identity.events import USER_EVENTS, USERS, UserRegistered
from callboard.actors.identity.known_devices import KNOWN_DAYS
from callboard.actors.identity.living_sessions import LivingSessions
from callboard.actors.identity.password_hasher import PasswordHasher
from callboard.actors.identity.password_policy import PasswordPolicy
from callboard.actors.identity.password_reset import PASSWORD_CHANGED, PasswordReset
from callboard.actors.identity.profiles import Profiles
from callboard.actors.identity.refs import LOGIN, MAIL, REGISTER, IdentityRefs
from callboard.actors.identity.registration import UNPROVEN_DAYS, oldest_unproven, purge_unproven
from callboard.actors.identity.registration_counter import CONSUMER, RegistrationCounter
from callboard.actors.identity.session_cache import SessionCache
from callboard.actors.identity.sessions import STEP_UP_S, Sessions
from callboard.actors.identity.sessions import key_of as session_key
from callboard.actors.identity.user_generations import UserGenerations
from callboard.actors.identity.user_import_job import IMPORT_USERS, UserImporter, UserImports
from callboard.actors.identity.users import READ_USERS, Users
from callboard.actors.infrastructure.job_kinds import JobHandler, job_pool
from callboard.actors.infrastructure.refs import Declared, Infrastructure
from callboard.actors.infrastructure.retention import Retain, RetentionRule, query_rule
from callboard.actors.infrastructure.row_loader import Reads
from callboard.actors.settings import Count, Days, Hours, Seconds, Settings
from callboard.runtime import Mailbox, Overflow, Props, pool, worker
from callboard.streams.consumers import Consumer

# A full mailbox of a hasher or a login is a refusal, 503, and not a queue that nobody waits for any more: what
# 8 workers with 4 waiting for each have accepted takes two hashers about a second.
HASHER_MAILBOX = Mailbox(capacity=32, overflow=Overflow.REJECT)
LOGIN_MAILBOX = Mailbox(capacity=4, overflow=Overflow.REJECT)


class IdentitySettings(Settings, frozen=True, kw_only=True):
    """Settings of identity."""

    password_policy: Annotated[
        PasswordPolicy, Meta(description="the rules for new passwords: composition, or nist (15 characters)")
    ] = PasswordPolicy.COMPOSITION
    registration_conflict: Annotated[
        Literal["reveal", "conceal"],
        Meta(
            description="the response to the registration of a taken address: reveal (409) or conceal (as for a new "
            "one)"
        ),
    ] = "reveal"
    rate_limit_register: Annotated[Count, Meta(description="registrations per minute, by address")] = REGISTER.limit
    rate_limit_login: Annotated[Count, Meta(description="logins per minute, by address")] = LOGIN.limit
    rate_limit_account: Annotated[
        Count, Meta(description="failed logins of an account from one network in 15 minutes")
    ] = ACCOUNT.limit
    rate_limit_account_total: Annotated[Count, Meta(description="failed logins from all networks it does not know")] = (
        ACCOUNT_TOTAL.limit
    )
    step_up_s: Annotated[Seconds, Meta(description="seconds for which a confirmed password counts")] = int(STEP_UP_S)
    email_undo_hours: Annotated[Hours, Meta(description="hours for which a mail can undo a change of address")] = 72.0
    unproven_account_days: Annotated[Days, Meta(description="days until an unverified account is removed")] = (
        UNPROVEN_DAYS
    )
    known_device_days: Annotated[
        Days, Meta(description="days for which a network counts as known after a login and is not locked out")
    ] = KNOWN_DAYS
    quota_exports_per_hour: Annotated[Count, Meta(description="exports that one user may request in an hour")] = (
        EXPORTS_PER_HOUR
    )
    export_max_bytes: Annotated[int, Meta(ge=1, le=4 << 30, description="the maximum size of an export in bytes")] = (
        MAX_ARCHIVE_BYTES
    )
    erase_after_days: Annotated[
        int,
        Meta(
            ge=0,
            le=36_500,
            description="days after which a deleted account's personal data is erased; 0 erases within an hour",
        ),
    ] = 30


class IdentityNeeds(Struct, frozen=True):
    """The needs of identity."""

    infrastructure: Infrastructure
    declared: Declared


def build(settings: IdentitySettings, needs: IdentityNeeds) -> Branch[IdentityRefs]:
    """Construct the actors."""
    shared = needs.infrastructure
    database, signer = shared.database, shared.signer
    policy = settings.password_policy
    registration = RegistrationPolicy(
        policy, conceal=settings.registration_conflict == "conceal", undo_ttl_s=settings.email_undo_hours * 3600
    )
    session_cache = SessionCache(UserGenerations(shared.cache, shared.clock))
    passwords = pool("passwords", Props(PasswordHasher), size=2, mailbox=HASHER_MAILBOX)
    # Each worker of sessions mostly waits for PostgreSQL or Redis, and what waits together goes in one round trip.
    new_session = Props(Sessions, database, session_cache, signer, shared.now, step_up_s=settings.step_up_s)
    sessions = pool("sessions", new_session, size=32, key=session_key)
    new_user = Props(
        Users,
        *(database, passwords, signer, sessions, registration),
        reads=Reads(database, READ_USERS, "user_id"),
        step_up_s=settings.step_up_s,
    )
    users = pool("users", new_user, size=4)
    conceal, known_days = registration.conceal, settings.known_device_days
    checks = (database, passwords, sessions, shared.limits, shared.failed_logins)
    new_login = Props(Logins, *checks, signer=signer, conceal=conceal, known_days=known_days)
    logins = pool("logins", new_login, size=8, mailbox=LOGIN_MAILBOX)
    resets = pool("password_reset", Props(PasswordReset, *checks, policy=policy), size=4, mailbox=LOGIN_MAILBOX)
    profiles = pool("profiles", Props(Profiles, database), size=8)
    new_export = Props(
        Exports, database, signer, shared.jobs, settings.quota_exports_per_hour, step_up_s=settings.step_up_s
    )
    exports = pool("exports", new_export, size=2)
    requests = pool("email_requests", Props(EmailRequests, database, shared.jobs), size=2)
    active = worker("active_users", Props(ActiveUsers, database.pool("operators"), shared.observers.active_users))
    counter = worker("registrations", Props(RegistrationCounter, database, shared.observers.registrations))
    imports = pool("user_imports", Props(UserImports, database, shared.jobs, settings.step_up_s), size=1)
    living = LivingSessions(database.pool("operators"))
    nodes = (passwords, imports, sessions, logins, users, resets, profiles, exports, requests, active, counter)
    return Branch(
        refs=IdentityRefs(
            *(users, logins, sessions, profiles, exports, resets, requests, imports, session_cache, policy, living)
        ),
        children=[Child(node) for node in nodes],
        consumers=(Consumer(CONSUMER, (USERS,), (UserRegistered,), counter),),
        jobs=_jobs(settings, needs),
        retention=_retention(settings, needs.declared),
    )


def _jobs(settings: IdentitySettings, needs: IdentityNeeds) -> tuple[JobHandler[Any], ...]:
    database, parts = needs.infrastructure.database.pool("jobs"), needs.declared.personal_data
    return (
        job_pool(IMPORT_USERS, Props(UserImporter)),
        job_pool(EMAIL_REQUEST, Props(EmailRequestWorker, needs.infrastructure.signer)),
        job_pool(MAKE_EXPORT, Props(ExportWorker, database, parts, settings.export_max_bytes)),
    )


def _retention(settings: IdentitySettings, declared: Declared) -> tuple[RetentionRule, ...]:
    unproven = settings.unproven_account_days
    erase = partial(erase_due, days=settings.erase_after_days, parts=declared.personal_data)
    return (
        RetentionRule(
            "unproven_accounts", partial(purge_unproven, days=unproven), partial(oldest_unproven, days=unproven)
        ),
        RetentionRule("deleted_users", erase),
    )


IDENTITY = Department(
    name="identity",
    settings=IdentitySettings,
    needs=IdentityNeeds,
    offers=IdentityRefs,
    build=build,
    events=USER_EVENTS,
    errors=ERRORS,
    limits=(REGISTER, LOGIN, MAIL, ACCOUNT, ACCOUNT_TOTAL),
    jobs=(EMAIL_REQUEST, MAKE_EXPORT, IMPORT_USERS),
    notifications=(PASSWORD_CHANGED,),
    retention=(
        Retain("sessions", "sessions", "expires_at", 30),
        Retain("refresh_tokens", "refresh_tokens", "spent_at", 31),  # a day longer than a token is good for
        Retain("known_networks", "known_networks", "seen_at", KNOWN_DAYS, "known_device_days"),
        query_rule("mail_tokens", MAIL_TOKENS.purge_tokens, MAIL_TOKENS.oldest_token),
    ),
    personal_data=(
        session_data.PERSONAL_DATA,
        session_data.NETWORKS,
        data_export.PERSONAL_DATA,
        profile_data.PERSONAL_DATA,
        accounts.PERSONAL_DATA,
    ),
)
