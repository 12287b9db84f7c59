"""Known devices: the devices and networks that an account has logged in from. Strangers who guess its password do not
lock these out.

A device is known by the token of an earlier login, or by its network (/24, for IPv6 /64), for a configured time. A
device token is no credential: it is useless without the password, and has its own count of failures.
"""

import hashlib
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any
from uuid import UUID, uuid4

import msgspec

from callboard.actors.infrastructure.token_signer import Signer
from callboard.streams.queries import queries_beside

QUERIES = queries_beside(__file__)

KNOWN_DAYS = 90  # by default
_V4_PREFIX, _V6_PREFIX = 24, 64
_ID_BYTES = 16


class Origin(msgspec.Struct, frozen=True):
    """The origin of an attempt: the key that its failures are counted under, and whether strangers can lock it out."""

    key: str
    is_known: bool = False


def address_of(ip: str | None) -> str | None:
    """Return the address in PostgreSQL's form; None if it is no IP address, such as the path of a socket."""
    try:
        address = ip_address((ip or "").partition("%")[0])
    except ValueError:
        return None
    return str((address.ipv4_mapped if isinstance(address, IPv6Address) else None) or address)


def network_of(ip: str | None) -> str | None:
    """Return the network of an address; None without an address."""
    address = address_of(ip)
    if address is None:
        return None
    return str(ip_network((address, _V6_PREFIX if ":" in address else _V4_PREFIX), strict=False))


def make_device_token(signer: Signer, user_id: UUID) -> str:
    """Return a token that `device_of` recognises for this user only."""
    device_id = uuid4().bytes
    return f"{device_id.hex()}.{signer.device_proof(user_id, device_id)}"


def device_of(signer: Signer, user_id: UUID, token: str | None) -> str | None:
    """Return the device id in one of our tokens; None for any other text."""
    name, _, proof = (token or "").partition(".")
    try:
        device_id = bytes.fromhex(name)
    except ValueError:
        return None
    good = len(device_id) == _ID_BYTES and signer.is_device_proof(user_id, device_id, proof)
    return device_id.hex() if good else None


def origin_of(
    signer: Signer, user_id: UUID | None, ip: str | None, device_token: str | None, *, is_known: bool
) -> Origin:
    """Return the origin of an attempt on an account; `is_known` says whether its network is known for the account."""
    device = device_of(signer, user_id or UUID(int=0), device_token)
    if device is not None:
        return Origin(f"device:{device}", is_known=True)
    return Origin(f"network:{network_of(ip)}", is_known=is_known)


async def remember_network(connection: Any, user_id: UUID, ip: str | None) -> None:
    """Remember this network: its user has just given the password, or proved the mailbox."""
    if (network := network_of(ip)) is not None:
        await QUERIES.remember(connection, user_id=user_id, network=network)


def account_key(email: str, changed_at: float) -> str:
    """Return the key under which failed logins of an account are counted. A new password begins a new count."""
    return hashlib.sha256(f"{changed_at}:{email.lower()}".encode("utf-8", "replace")).hexdigest()
