"""The fate of a mail that a server did not accept, by the phase and the reply."""

import itertools

import pytest

from callboard.actors.delivery.mail_retries import MAX_ATTEMPTS, RULES, Reason, RetryDecision, decide, reason_of
from callboard.actors.delivery.smtp_errors import Fault, Phase, SmtpError

P, F, R = Phase, Fault, Reason

REASONS: list[tuple[Phase, Fault, int | None, str, Reason]] = [
    # Before the server has heard of the mail
    (P.CONNECT, F.UNREACHABLE, None, "", R.AWAY),
    (P.CONNECT, F.TIMEOUT, None, "", R.AWAY),
    (P.GREETING, F.TIMEOUT, None, "", R.AWAY),
    (P.GREETING, F.CLOSED, None, "", R.AWAY),
    (P.GREETING, F.GARBLED, None, "HTTP/1.1 400 Bad Request", R.AWAY),
    (P.GREETING, F.REPLY, 421, "busy", R.AWAY),
    (P.GREETING, F.REPLY, 554, "no mail here", R.MISCONFIGURED),
    (P.EHLO, F.REPLY, 550, "who are you", R.MISCONFIGURED),
    (P.TLS, F.UNSUPPORTED, None, "STARTTLS", R.MISCONFIGURED),
    (P.TLS, F.TLS, None, "certificate has expired", R.MISCONFIGURED),
    (P.TLS, F.REPLY, 454, "TLS not available", R.AWAY),
    (P.GREETING, F.TLS, None, "wrong version number", R.MISCONFIGURED),
    (P.AUTH, F.REPLY, 535, "5.7.8 bad credentials", R.MISCONFIGURED),
    (P.AUTH, F.REPLY, 454, "4.7.0 temporary failure", R.AWAY),
    (P.AUTH, F.UNSUPPORTED, None, "AUTH", R.MISCONFIGURED),
    # About the mail
    (P.MAIL, F.REPLY, 421, "closing", R.AWAY),
    (P.MAIL, F.REPLY, 450, "later", R.FAILED),
    (P.MAIL, F.REPLY, 451, "4.3.0 local error", R.DELAYED),
    (P.MAIL, F.REPLY, 450, "4.7.1 rate limit", R.DELAYED),
    (P.MAIL, F.REPLY, 452, "too much mail", R.DELAYED),
    (P.MAIL, F.REPLY, 530, "5.7.0 authentication required", R.MISCONFIGURED),
    (P.MAIL, F.REPLY, 550, "sender refused", R.REFUSED),
    (P.MAIL, F.TIMEOUT, None, "", R.FAILED),
    (P.RCPT, F.REPLY, 421, "closing", R.AWAY),
    (P.RCPT, F.REPLY, 450, "greylisted", R.DELAYED),
    (P.RCPT, F.REPLY, 451, "4.7.1 try again", R.DELAYED),
    (P.RCPT, F.REPLY, 501, "bad address", R.REFUSED),
    (P.RCPT, F.REPLY, 550, "no such user", R.REFUSED),
    (P.RCPT, F.REPLY, 252, "cannot verify", R.FAILED),
    (P.RCPT, F.INVALID, None, "needs SMTPUTF8", R.INVALID),
    (P.RCPT, F.CLOSED, None, "", R.FAILED),
    (P.DATA, F.REPLY, 451, "later", R.DELAYED),
    (P.DATA, F.REPLY, 554, "no", R.REFUSED),
    (P.DATA, F.TIMEOUT, None, "", R.FAILED),
    (P.BODY, F.CLOSED, None, "", R.FAILED),
    (P.BODY, F.TIMEOUT, None, "", R.FAILED),
    (P.MAIL, F.TOO_LARGE, None, "", R.INVALID),
    # After the final dot
    (P.FINAL, F.REPLY, 451, "greylisted", R.DELAYED),
    (P.FINAL, F.REPLY, 421, "closing", R.AWAY),
    (P.FINAL, F.REPLY, 552, "too large", R.REFUSED),
    (P.FINAL, F.REPLY, 150, "hm", R.UNKNOWN),
    (P.FINAL, F.REPLY, 354, "go on", R.UNKNOWN),
    (P.FINAL, F.TIMEOUT, None, "", R.UNKNOWN),
    (P.FINAL, F.CLOSED, None, "", R.UNKNOWN),
    (P.FINAL, F.GARBLED, None, "?", R.UNKNOWN),
]


@pytest.mark.parametrize(("phase", "fault", "code", "text", "reason"), REASONS)
def test_the_reason_follows_from_phase_and_reply(
    phase: Phase, fault: Fault, code: int | None, text: str, reason: Reason
) -> None:
    assert reason_of(SmtpError(phase, fault, code, text)) is reason


def test_every_failure_has_a_reason_and_every_rule_is_used() -> None:
    used = set()
    codes = (None, -1, 0, 199, 250, 354, 421, 450, 451, 452, 454, 500, 503, 530, 535, 550, 599, 999)
    for phase, fault, code, text in itertools.product(Phase, Fault, codes, ("", "4.7.1 x", "5.7.1 x", "\n")):
        error = SmtpError(phase, fault, code, text)
        used.add(next(n for n, rule in enumerate(RULES) if rule.matches(error)))
    assert used == set(range(len(RULES)))


@pytest.mark.parametrize(("code", "says_no"), [(150, False), (999, False), (451, True), (550, True)])
def test_only_silence_after_the_final_dot_or_neither_yes_nor_no_has_an_unknown_outcome(
    code: int, says_no: bool
) -> None:
    for phase, fault in itertools.product(Phase, Fault):
        unknown = reason_of(SmtpError(phase, fault, code)) is Reason.UNKNOWN
        silent = fault in (F.TIMEOUT, F.CLOSED, F.GARBLED, F.UNREACHABLE)
        assert unknown == (phase is P.FINAL and (silent or (fault is F.REPLY and not says_no)))


DECISIONS: list[tuple[Reason, int, float, float, RetryDecision]] = [
    # A server that fails: 2, 4 s, and the third attempt is the last.
    (R.FAILED, 1, 0, 3600, RetryDecision(2.0, counts=True)),
    (R.FAILED, 2, 9, 3600, RetryDecision(4.0, counts=True)),
    (R.FAILED, 3, 9, 3600, RetryDecision(None, counts=True)),
    # Nobody knows: never at once again.
    (R.UNKNOWN, 1, 600, 3000, RetryDecision(60.0, counts=True)),
    (R.UNKNOWN, 2, 1300, 2000, RetryDecision(120.0, counts=True)),
    (R.UNKNOWN, 3, 2000, 1000, RetryDecision(None, counts=True)),
    # Never
    (R.REFUSED, 1, 0, 3600, RetryDecision(None, counts=True)),
    (R.INVALID, 1, 0, 3600, RetryDecision(None, counts=True)),
    # Greylisting: minutes, and a last chance before the deadline.
    (R.DELAYED, 1, 0, 3600, RetryDecision(60.0, counts=False)),
    (R.DELAYED, 3, 120, 3480, RetryDecision(120.0, counts=False)),
    (R.DELAYED, 1, 1000, 2600, RetryDecision(600.0, counts=False)),
    (R.DELAYED, 1, 240, 60, RetryDecision(45.0, counts=False)),  # a fifth of jitter is to come
    (R.DELAYED, 1, 295, 5, RetryDecision(295.0, counts=False)),
    # A server that is away
    (R.AWAY, 3, 0, 3600, RetryDecision(1.0, counts=False)),
    (R.AWAY, 1, 30, 3600, RetryDecision(15.0, counts=False)),
    (R.AWAY, 1, 3000, 600, RetryDecision(60.0, counts=False)),
    (R.MISCONFIGURED, 1, 30, 3600, RetryDecision(15.0, counts=False)),
]


@pytest.mark.parametrize(("reason", "attempts", "age_s", "left_s", "expected"), DECISIONS)
def test_the_decision_follows_from_the_reason(
    reason: Reason, attempts: int, age_s: float, left_s: float, expected: RetryDecision
) -> None:
    assert decide(reason, attempts=attempts, age_s=age_s, left_s=left_s) == expected


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_that_counts_ends_after_the_attempts_allowed(reason: Reason) -> None:
    decision = decide(reason, attempts=MAX_ATTEMPTS, age_s=10, left_s=3000)
    assert decision.delay_s is None or not decision.counts


@pytest.mark.parametrize("lifetime_s", [300, 3600])
def test_a_greylisted_mail_is_tried_several_times_within_its_deadline_and_not_often(lifetime_s: float) -> None:
    age_s, tries = 0.0, [0.0]
    while age_s < lifetime_s:
        decision = decide(Reason.DELAYED, attempts=1, age_s=age_s, left_s=lifetime_s - age_s)
        assert decision.delay_s is not None
        age_s += decision.delay_s
        tries.append(age_s)
    in_time = [each for each in tries if each < lifetime_s]
    assert 4 <= len(in_time) <= 15
    assert in_time[-1] >= 0.8 * lifetime_s
