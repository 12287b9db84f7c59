"""TLS and authentication for a Kafka cluster."""

import ssl
from typing import Any, Literal, get_args

from msgspec import Struct

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
MECHANISMS: tuple[Mechanism, ...] = get_args(Mechanism)


class KafkaSecurity(Struct, frozen=True):
    """`protocol` is one of PROTOCOLS, `mechanism` one of MECHANISMS; `ca_file` "" is the system's authorities."""

    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str = ""
    password: str = ""
    ca_file: str = ""

    def __repr__(self) -> str:
        """Without the password."""
        return f"KafkaSecurity({self.protocol}, {self.mechanism}, {self.username!r})"

    def client_options(self) -> dict[str, Any]:
        """Return the options for aiokafka's clients and connections. Raises OSError for an invalid certificate file."""
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.tls()}
        if self.protocol.startswith("SASL_"):
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options

    def tls(self) -> ssl.SSLContext | None:
        """Return the context of TLS, None without TLS. Raises OSError for an invalid certificate file."""
        return ssl.create_default_context(cafile=self.ca_file or None) if self.protocol.endswith("SSL") else None
