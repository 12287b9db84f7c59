"""Bodies and queries are read by the rules of their fields, and every field that breaks one is named."""

import json
from typing import Any

import pytest

from callboard.actors.errors import Problem
from callboard.http.api.content import ContentBody
from callboard.http.api.sessions import Credentials
from callboard.http.api.users import Account, Filter, Registration
from callboard.http.server.validation import BodyReader, QueryReader

GOOD = {"email": "ada@example.org", "password": "Lantern-Walk-42", "full_name": "Ada", "terms_accepted": True}


def faults(kind: type, body: Any) -> list[tuple[str, str]]:
    with pytest.raises(Problem) as caught:
        BodyReader(kind).read(json.dumps(body).encode())
    return [(detail.field, detail.message) for detail in caught.value.details]


def test_a_body_is_read_in_its_canonical_form() -> None:
    sent = GOOD | {"email": " Ada@B\u00dcCHER.example ", "full_name": " Jose\u0301 "}
    read = BodyReader(Registration).read(json.dumps(sent).encode())
    assert (read.email, read.full_name) == ("Ada@xn--bcher-kva.example", "Jos\u00e9")


def test_a_login_is_read_as_the_registration_was() -> None:
    for email in ("ada@b\u00fccher.example ", "ada@XN--BCHER-KVA.example", "\tada@bu\u0308cher.example"):
        read = BodyReader(Credentials).read(json.dumps({"email": email, "password": "x"}).encode())
        assert read.email == "ada@xn--bcher-kva.example"


def test_a_query_is_read_in_its_canonical_form() -> None:
    assert QueryReader(Filter).read([("email", "ada@b\u00fccher.example")]).email == "ada@xn--bcher-kva.example"
    with pytest.raises(Problem) as caught:
        QueryReader(Filter).read([("email", "a@[")])
    assert [detail.field for detail in caught.value.details] == ["email"]


def test_every_field_that_breaks_a_rule_is_named_with_those_of_a_wrong_form() -> None:
    found = faults(Registration, {"email": "a@[", "password": 1, "full_name": "\u200b\u200b", "terms_accepted": True})
    assert {field for field, _ in found} == {"email", "password", "full_name"}
    both = dict(faults(Registration, GOOD | {"email": "a@b@c.org", "full_name": "Visit\u202e"}))
    assert "@" in both["email"]
    assert both["full_name"] == "must not contain the character U+202E"


def test_an_address_that_is_left_out_stays_out() -> None:
    assert BodyReader(Account).read(b'{"full_name": "Ada"}').email is None
    assert BodyReader(Account).read(b'{"full_name": "Ada", "email": null}').email is None


@pytest.mark.parametrize("title", ["\u200b", "\u3164", "a\u2066b", "a\nb", ""], ids=ascii)
def test_a_title_must_show_something_and_be_one_line(title: str) -> None:
    assert [field for field, _ in faults(ContentBody, {"title": title, "body": "b"})] == ["title"]
