"""Every behaviour of a mail server in every phase: the class of the failure, and the copies that left whole."""

import msgspec
import pytest
from kit.smtp_script import HANG_UP, ScriptedSmtpServer

from callboard.actors.delivery.mail_message import OutgoingMail
from callboard.actors.delivery.mail_monitor import MailMonitor
from callboard.actors.delivery.mail_retries import Reason
from callboard.actors.delivery.mail_servers import DeliveryError, MailRoute, MailServer
from callboard.actors.delivery.smtp_errors import Phase
from callboard.actors.delivery.smtp_settings import SmtpSettings, SmtpTimeouts, Tls

R = Reason
PATIENT = SmtpTimeouts(connect_s=20.0, before_dot_s=60.0)
SILENT_S = 0.15  # in the phase that is silent: in all others the machine may be busy
LINE = b"%s\r\n" % (b"x" * 76)
SMALL, LARGE = b"Subject: x\r\n\r\nHello\r\n", LINE * 110_000  # more than the buffers of two sockets

PHASES = {
    "greeting": Phase.GREETING,
    "EHLO": Phase.EHLO,
    "MAIL": Phase.MAIL,
    "RCPT": Phase.RCPT,
    "DATA": Phase.DATA,
    "content": Phase.BODY,
    "body": Phase.FINAL,
}
LIMITS = dict(zip(PHASES, ("greeting_s", *["command_s"] * 3, "data_s", "block_s", "final_s"), strict=True))
# In the order of PHASES; nothing is said while the text comes.
REFUSED = (R.MISCONFIGURED, R.MISCONFIGURED, R.REFUSED, R.REFUSED, R.REFUSED, None, R.REFUSED)
TRANSIENT = (R.AWAY, R.AWAY, R.FAILED, R.DELAYED, R.DELAYED, None, R.DELAYED)
DELAYED = (R.AWAY, R.AWAY, R.DELAYED, R.DELAYED, R.DELAYED, None, R.DELAYED)
SILENCE = (R.AWAY, R.AWAY, R.FAILED, R.FAILED, R.FAILED, R.FAILED, R.UNKNOWN)
MATRIX: dict[str | None, tuple[Reason | None, ...]] = {
    "421 closing": (R.AWAY,) * 5 + (None, R.AWAY),
    "421-4.4.2 too\n421 busy": (R.AWAY,) * 5 + (None, R.AWAY),
    "450 later": TRANSIENT,
    "450-in a\n450-while\n450 perhaps": TRANSIENT,
    "450 4.7.1 greylisted": DELAYED,
    "451 local error": TRANSIENT,
    "451 4.3.0 local error": DELAYED,
    "451-4.7.650 rate\n451 4.7.650 limit": DELAYED,
    "452 too many": DELAYED,
    "530 5.7.0 log in first": (R.MISCONFIGURED,) * 5 + (None, R.MISCONFIGURED),
    "550 no": REFUSED,
    "550 5.1.1 <ada@example.org> unknown": REFUSED,
    "550-no\n550 and no": REFUSED,
    "552 5.2.2 mailbox full": REFUSED,
    "554 5.7.1 no": REFUSED,
    "gibberish": (*SILENCE[:5], None, R.UNKNOWN),
    "HTTP/1.1 400 Bad Request": (*SILENCE[:5], None, R.UNKNOWN),
    None: SILENCE,
    HANG_UP: SILENCE,
}
CASES = [
    pytest.param(word, behaviour, reason, id=f"{word}-{behaviour}")
    for behaviour, reasons in MATRIX.items()
    for word, reason in zip(PHASES, reasons, strict=True)
    if reason is not None
]


def route_to(*scripts: ScriptedSmtpServer, timeouts: SmtpTimeouts = PATIENT) -> MailRoute:
    settings = [SmtpSettings("127.0.0.1", script.port, tls=Tls.NONE) for script in scripts]
    return MailRoute([MailServer(each, MailMonitor(), timeouts=timeouts) for each in settings])


@pytest.mark.parametrize(("word", "behaviour", "reason"), CASES)
async def test_each_behaviour_in_each_phase_has_its_class_and_no_more_copies_than_it_may(
    word: str, behaviour: str | None, reason: Reason
) -> None:
    counted: list[str] = []

    async def count(server: str) -> None:
        counted.append(server)

    mail = OutgoingMail("b@example.org", "ada@example.org", LARGE if word == "content" else SMALL)
    answers = {word: behaviour} | ({"HELO": behaviour} if word == "EHLO" else {})
    async with ScriptedSmtpServer(**answers).listening() as script:
        short = {LIMITS[word]: SILENT_S} if behaviour is None else {}
        route = route_to(script, timeouts=msgspec.structs.replace(PATIENT, **short))
        with pytest.raises(DeliveryError) as caught:
            await route.send(mail, count)
        assert (caught.value.reason, caught.value.error.phase) == (reason, PHASES[word])
        assert len(script.bodies) == len(counted) == (word == "body")
        assert script.connections == 1
        # It has recovered: the mail leaves once, whatever state the connection was left in.
        script.answers |= ScriptedSmtpServer().answers
        bodies = len(script.bodies)
        if word != "content":
            await route.send(mail, count)
            assert len(script.bodies) == bodies + 1
        route.close()


def test_every_class_of_failure_stands_in_the_matrix() -> None:
    assert {reason for reasons in MATRIX.values() for reason in reasons} == {*Reason, None} - {Reason.INVALID}
