"""Email addresses: one canonical form, at every input.

Canonical is: trimmed; at most 254 characters (RFC 5321, 4.5.3.1.3); a dot-atom local part of ASCII, at most 64 octets;
a domain name in lower case as A-labels (IDNA 2008). So `ada@BÜCHER.example` and `ada@xn--bcher-kva.example` are one
address, and a mail server without SMTPUTF8 can use each. The local part keeps its case, which is ignored when two
addresses are compared.
"""

from typing import Annotated

from email_validator import EmailNotValidError, validate_email

from callboard.streams.field_rules import field_rule

MAX_EMAIL_LENGTH = 254
REDACTED = "***"

# The addresses that can be typed in ASCII; every match is accepted. An internationalised domain is accepted in Unicode
# and as `xn--` too, which a pattern cannot tell from an invalid one.
_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = "[A-Za-z0-9](?:-?[A-Za-z0-9]){0,62}"
_PATTERN = rf"^\s*{_ATEXT}(?:\.?{_ATEXT}){{0,63}}@(?:{_LABEL}\.)+[A-Za-z](?:-?[A-Za-z]){{0,62}}\s*$"


def canonical_email(text: str, *, strict: bool = True) -> str:
    """Return the canonical form of an address. Raises ValueError with a sentence that names the fault.

    Without `strict` the local part may have more than 64 octets: earlier releases accepted such addresses.
    """
    trimmed = text.strip()
    if len(trimmed) > MAX_EMAIL_LENGTH:  # checked first: the rest is not linear in its length
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
    """Return the canonical form of an address that an earlier release may have accepted. Raises ValueError."""
    return canonical_email(text, strict=False)


def redact_email(address: str) -> str:
    """Return `u***@example.com`: enough for the owner to recognise it."""
    local, _, domain = address.rpartition("@")
    if local in (REDACTED, f"{local[:1]}{REDACTED}"):  # redacted already
        return address
    return f"{local[:1]}{REDACTED}@{domain}" if local else REDACTED


_SCHEMA = {
    "pattern": _PATTERN,
    "minLength": 5,
    "maxLength": MAX_EMAIL_LENGTH,
    "description": "An email address. A domain may also be sent in Unicode or as A-labels (xn--).",
}
Email = Annotated[str, field_rule(canonical_email, _SCHEMA, examples=("ada@example.org",))]
# For lookups of accounts, which store no address.
KnownEmail = Annotated[str, field_rule(known_email, _SCHEMA, examples=("ada@example.org",))]
