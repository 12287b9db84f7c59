"""Email addresses: one canonical form, at every door.

Canonical is: trimmed; at most 254 characters (RFC 5321, 4.5.3.1.3); a dot-atom local part of ASCII, at most 64 octets;
a domain name in lower case as A-labels (IDNA 2008). So `ada@BÜCHER.example` and `ada@xn--bcher-kva.example` are one
address, and each can be used by a mail server without SMTPUTF8. The case of the local part is kept as it was typed,
and does not count when two addresses are compared.
"""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email

from callboard.streams.field_rules import field_rule

MAX_EMAIL_LENGTH = 254
REDACTED = "***"

# The addresses that can be typed in ASCII, written so that each match is taken. An internationalised domain is taken
# in Unicode and as `xn--` too, which a pattern cannot tell from an invalid one.
_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,62}"
_PATTERN = rf"^\s*{_ATEXT}(?:\.?{_ATEXT}){{0,63}}@(?:{_LABEL}\.)+[A-Za-z](?:-?[A-Za-z]){{0,62}}\s*$"


def canonical_email(text: str, *, strict: bool = True) -> str:
    """The canonical form of an address. Raises ValueError with a sentence that says what is wrong.

    Without `strict` the local part may have more than 64 octets: earlier releases gave accounts to such addresses.
    """
    trimmed = text.strip()
    if len(trimmed) > MAX_EMAIL_LENGTH:  # first: the rest is not linear in its length
        raise ValueError(f"must have {MAX_EMAIL_LENGTH} characters at most")
    try:
        checked = validate_email(
            trimmed,
            allow_smtputf8=False,
            allow_quoted_local=False,
            allow_domain_literal=False,
            allow_display_name=False,
            strict=strict,
            check_deliverability=False,
        )
    except (EmailNotValidError, UnicodeError) as error:
        raise ValueError(str(error) or "is not an email address") from error
    domain = checked.ascii_domain.lower()
    email = f"{checked.local_part}@{domain}"
    if len(email) > MAX_EMAIL_LENGTH:
        raise ValueError(f"must have {MAX_EMAIL_LENGTH} characters at most, its domain as A-labels")
    return email


def known_email(text: str) -> str:
    """The canonical form of an address that an account may have had since an earlier release. Raises ValueError."""
    return canonical_email(text, strict=False)


def redact_email(address: str) -> str:
    """`u***@example.com`: enough to know one's own by, and no more."""
    local, _, domain = address.rpartition("@")
    if local in (REDACTED, f"{local[:1]}{REDACTED}"):  # it has been here before
        return address
    return f"{local[:1]}{REDACTED}@{domain}" if local else REDACTED


_SCHEMA = {
    "pattern": _PATTERN,
    "minLength": 5,
    "maxLength": MAX_EMAIL_LENGTH,
    "description": "An email address. A domain may also be sent in Unicode or as A-labels (xn--).",
}
Email = Annotated[str, field_rule(canonical_email, _SCHEMA, examples=("ada@example.org",))]
# Where an account is looked up, and nothing is given an address.
KnownEmail = Annotated[str, field_rule(known_email, _SCHEMA, examples=("ada@example.org",))]
