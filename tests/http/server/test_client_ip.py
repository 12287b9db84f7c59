"""Who counts as the client: nothing that a client can write changes what it is counted as."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from callboard.http.server.client_ip import LONGEST, Proxies, _parsed, network, parsed, rate_limit_address
from callboard.http.server.raw_request import Settings

NAME = "X-Forwarded-For"
OURS = Proxies([network("10.0.0.0/8"), network("fd00::/8"), network("192.0.2.7")])

outside = st.one_of(
    st.ip_addresses(v=4).filter(lambda ip: not str(ip).startswith("10.") and str(ip) != "192.0.2.7"),
    st.ip_addresses(v=6).filter(lambda ip: not str(ip).startswith("fd") and ip.ipv4_mapped is None),
).map(str)
proxy = st.one_of(st.ip_addresses(v=4, network="10.0.0.0/8"), st.ip_addresses(v=6, network="fd00::/8")).map(str)
spoofed = st.lists(
    st.one_of(outside, proxy, st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.just("unknown")),
    max_size=5,
).map(",".join)


def headers(*lines: str) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict([(NAME, line) for line in lines]))


@given(outside, st.lists(spoofed, max_size=3))
def test_a_peer_that_is_no_proxy_of_ours_is_the_client_whatever_it_sends(peer: str, sent: list[str]) -> None:
    assert OURS.client(peer, headers(*sent)) == peer
    assert Proxies().client(peer, headers(*sent)) == peer


@given(proxy, outside, st.lists(proxy, max_size=3), st.lists(spoofed, max_size=3), st.booleans())
def test_through_our_proxies_the_client_is_whom_the_first_of_them_saw(
    peer: str, client: str, between: list[str], sent: list[str], joined: bool
) -> None:
    """Each proxy adds its caller at the right: to the line it got, or as a line of its own."""
    render_committed_document = [client, *between]
    lines = [",".join([*sent, *render_committed_document])] if joined else [*sent, *render_committed_document]
    assert OURS.client(peer, headers(*lines)) == client


@given(proxy, spoofed)
def test_where_a_proxy_of_ours_has_written_what_is_no_address_it_is_counted_itself(peer: str, sent: str) -> None:
    assert OURS.client(peer, headers(f"{sent},unknown")) == peer
    assert OURS.client(peer, headers(f"{sent},_hidden,10.9.9.9")) == "10.9.9.9"
    assert OURS.client(peer, headers(f"{sent},")) == peer


def test_without_the_header_the_proxy_is_the_client() -> None:
    assert OURS.client("10.1.2.3", headers()) == "10.1.2.3"
    assert OURS.client(None, headers("6.6.6.6")) == "unknown"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1:8080", "192.0.2.1"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("192.0.2.01", "None"),
        ("for=192.0.2.1", "None"),
        ("", "None"),
        (" " * 200, "None"),
        ("::1" + " " * 200 + "x", "None"),
    ],
)
def test_addresses_are_read_as_proxies_write_them(text: str, address: str) -> None:
    assert str(parsed(text)) == address


def test_a_subscriber_of_ipv6_is_counted_as_one_however_many_addresses_they_use() -> None:
    assert rate_limit_address("2001:db8:1:2::1") == rate_limit_address("2001:db8:1:2:ffff::9") == "2001:db8:1:2::/64"
    assert rate_limit_address("2001:db8:1:3::1") != rate_limit_address("2001:db8:1:2::1")
    assert rate_limit_address("::ffff:192.0.2.1") == rate_limit_address("192.0.2.1") == "192.0.2.1"
    assert rate_limit_address("whatever") == "unknown"


def test_what_is_remembered_of_addresses_is_bounded() -> None:
    _parsed.cache_clear()
    for n in range(5000):
        parsed("x" * LONGEST * 100 + str(n))
        parsed(f"{n}")
    assert _parsed.cache_info().currsize <= 4096


def test_a_network_that_is_none_is_said() -> None:
    with pytest.raises(ValueError, match=r"^must be addresses or networks"):
        network("10.0.0.0/99")


@contextmanager
def _seen(door: Any) -> Iterator[list[tuple[str, str]]]:
    door.limiter.seen.clear()
    yield door.limiter.seen


async def test_limits_count_the_client_behind_our_proxies_and_nobodys_word_otherwise(open_door: Any) -> None:
    spoof = {NAME: "6.6.6.6, 2001:db8::9"}
    async with open_door(Settings(proxies=Proxies([network("127.0.0.0/8")]))) as door:
        with _seen(door) as seen:
            await door.call("GET", "/api/v1/posts", headers=spoof)
            assert seen == [("default", "ip:2001:db8::/64")]
    async with open_door() as door:
        with _seen(door) as seen:
            await door.call(
                "GET", "/api/v1/posts", headers=spoof | {"Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"}
            )
            assert seen == [("default", "ip:127.0.0.1")]
