"""The settings of one SMTP server: its address and encryption, its time limits, and the life of a connection."""

from enum import StrEnum

import msgspec


class Tls(StrEnum):
    """How the connection is encrypted: after STARTTLS, from its first byte, or not at all."""

    STARTTLS = "starttls"
    IMPLICIT = "implicit"
    NONE = "none"


def parse_tls(text: str) -> Tls:
    """Parse the setting SMTP_TLS; true and false are values of the earlier SMTP_STARTTLS. Raises ValueError."""
    word = text.strip().lower()
    former = {"true": Tls.STARTTLS, "false": Tls.NONE}
    if word not in former and word not in tuple(Tls):
        raise ValueError("must be starttls, implicit or none")
    return former.get(word) or Tls(word)


class SmtpSettings(msgspec.Struct, frozen=True):
    """A server that relays our mail."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    tls: Tls = Tls.STARTTLS

    @property
    def name(self) -> str:
        """Return the server's address: it names the server in rows and logs."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Without the password."""
        return f"SmtpSettings({self.name})"


class SmtpTimeouts(msgspec.Struct, frozen=True):
    """Time limits in seconds; the defaults are the minimum of RFC 5321.

    `before_dot_s` limits all phases before the final dot together: a server that answers each command slowly cannot
    hold a sender for longer. `reset_s` limits the check of a kept connection: without a reply a new one is opened.
    """

    connect_s: float = 30.0
    greeting_s: float = 300.0
    command_s: float = 300.0
    data_s: float = 120.0
    block_s: float = 180.0
    final_s: float = 600.0
    before_dot_s: float = 900.0
    reset_s: float = 10.0

    @property
    def whole_s(self) -> float:
        """Return the longest time that one delivery takes."""
        return self.before_dot_s + self.final_s


class ConnectionLimits(msgspec.Struct, frozen=True):
    """The life of a connection: the number of its mails, its age, and its time without a mail."""

    mails: int = 100
    age_s: float = 300.0
    idle_s: float = 30.0


RFC_TIMEOUTS = SmtpTimeouts()
DEFAULT_LIMITS = ConnectionLimits()
