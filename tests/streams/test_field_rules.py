"""Field rules: addresses and visible texts are read alike wherever a type declares them."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import jsonschema_rs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from callboard.actors.delivery.events import MailRequested
from callboard.actors.identity.user_import import ImportedUser
from callboard.http.api.routes import ROUTES
from callboard.http.server.routing import shape_of
from callboard.streams.email_address import MAX_EMAIL_LENGTH, Email, canonical_email
from callboard.streams.field_rules import apply_rules, field_rule, rules_of
from callboard.streams.visible_text import visible, visible_rule


class Texts(msgspec.Struct, frozen=True):
    name: Annotated[str, visible(2, 255)]
    note: Annotated[str, visible(0, 2000, lines=True)] | None = None
    to: list[Email] = []


SCHEMA: dict[str, Any] = msgspec.json.schema(Texts)["$defs"]["Texts"]["properties"]


# Addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "typed",
    [
        "ada@bücher.example",
        "ada@BÜCHER.example",
        "ada@bu\u0308cher.example",  # decomposed
        "ada@xn--bcher-kva.example",
        "ada@XN--BCHER-KVA.EXAMPLE",
        " ada@bücher.example\n",
        "\u3000ada@bücher。example",  # the full stop of an input method
    ],
)
def test_every_spelling_of_an_address_has_one_canonical_form(typed: str) -> None:
    assert canonical_email(typed) == "ada@xn--bcher-kva.example"


def test_the_case_of_the_local_part_is_kept_and_that_of_the_domain_is_not() -> None:
    assert canonical_email("Ada.King@EXAMPLE.Org") == "Ada.King@example.org"


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "@", "a", "a@", "@b.org", "a@b@example.org", "a@[", "a@]", "a@[]", "a@[127.0.0.1]", "a@[IPv6:::1]"),
        *('"a b"@example.org', '"a"@example.org', "a(comment)@example.org", "Ada <a@example.org>", "<a@example.org>"),
        *("a@example.org.", "a@.example.org", "a@example..org", ".a@example.org", "a.@example.org", "a..b@example.org"),
        *("a\0@example.org", "a@exam\0ple.org", "a@example.org\0", "a@example.org\r\nBcc: b@example.org", "a\t@b.org"),
        *("a@example.org,b@example.org", "a@example.org;b@example.org", "a@example.org b@example.org"),
        *("ü@example.org", "a\u0301@example.org", "a@ex\u200bample.org", "a@exa\u202emple.org", "a@☃.net", "a@-b.org"),
        *("a@xn--zz.example", "a@ab--c.example", "a@b-.org", "a@localhost", "a@example.123", "a@under_score.org"),
        *("\ud800@example.org", "a@\udfff.org", "a@" + "b" * 64 + ".org", "a" * 65 + "@example.org"),
        *("a@" + ".".join(["b" * 60] * 5) + ".org", "a@" + "ü" * 60 + ".org", "a@" * 100_000, "a@" + "ü." * 90_000),
    ],
)
def test_what_is_no_address_is_refused_with_a_sentence(typed: str) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+") as caught:
        canonical_email(typed)
    assert type(caught.value) is ValueError


def test_an_address_may_have_64_octets_before_its_sign_and_254_characters_in_all() -> None:
    assert canonical_email("a" * 64 + "@example.org")
    domain = ".".join(["b" * 60, "b" * 60, "b" * 60, "b" * 2, "org"])
    longest = "a" * (MAX_EMAIL_LENGTH - len(domain) - 1) + "@" + domain
    assert len(canonical_email(longest)) == MAX_EMAIL_LENGTH
    with pytest.raises(ValueError, match="254"):
        canonical_email("a" + longest)
    with pytest.raises(ValueError, match=r"254|long"):  # within the limit as it is typed, and not as A-labels
        canonical_email("a" * 64 + "@" + ".".join(["ü" * 40] * 4) + ".org")


@pytest.mark.long
@given(st.from_regex(re.compile(SCHEMA["to"]["items"]["pattern"].removesuffix("$") + r"\Z", re.ASCII)))
def test_every_address_that_the_document_describes_is_taken(typed: str) -> None:
    local, _, domain = typed.strip().partition("@")
    # Lengths are more than a pattern can count.
    if len(typed) <= MAX_EMAIL_LENGTH and len(local) <= 64 and all(len(label) <= 63 for label in domain.split(".")):
        canonical = canonical_email(typed)
        assert canonical_email(canonical) == canonical
        assert canonical.isascii()


# Visible texts -------------------------------------------------------------------------------------------------------

INVISIBLE = [
    *(
        "\u200b",
        "\u200c",
        "\u200d",
        "\u2060",
        "\u00ad",
        "\u034f",
        "\u061c",
        "\u180e",
        "\u115f",
        "\u1160",
        "\u3164",
        "\uffa0",
    ),
    *("\u2800", "\u0301", "\u0489", "\u20dd", "\u093f", "\u0e31", "\ufe0f", "\U000e0100", "\U000e0041", "\U0001d165"),
    *("\u00a0", "\u2003", "\u3000", "\ue000", "\U000f0000", "\u17b4", "\u200e"),
]
CONTROLS = [
    *map(chr, range(9)),
    *map(chr, range(0x0B, 0x0D)),
    *map(chr, range(0x0E, 0x20)),
    *map(chr, range(0x7F, 0xA0)),
    *map(chr, range(0x202A, 0x202F)),
    *map(chr, range(0x2066, 0x206A)),
    "\ufeff",
    "\ufff9",
    *("\ufdd0", "\ufdef", "\ufffe", "\uffff", "\U0001fffe", "\U0010ffff"),
]


@pytest.mark.parametrize("text", [*INVISIBLE, "", " ", "\u200b \u200b"], ids=ascii)
def test_a_text_must_show_something(text: str) -> None:
    with pytest.raises(ValueError, match=r"empty|show something"):
        visible_rule(1, 200, lines=True)(text * 3)
    assert visible_rule(1, 200)(f"a{text}b")


@pytest.mark.parametrize("text", CONTROLS, ids=ascii)
def test_no_text_holds_a_control_character(text: str) -> None:
    for lines in (True, False):
        for typed in (f"a{text}b", f"{text}ab", f"ab{text}"):
            with pytest.raises(ValueError, match=f"U\\+{ord(text):04X}"):
                visible_rule(1, 200, lines=lines)(typed)


@pytest.mark.parametrize("text", ["\n", "\t", "\r", "\r\n", "\u2028", "\u2029"], ids=ascii)
def test_only_a_text_of_several_lines_has_line_breaks(text: str) -> None:
    with pytest.raises(ValueError, match=r"U\+"):
        visible_rule(1, 200)(f"a{text}b")
    kept = visible_rule(1, 200, lines=True)(f"a{text}b")
    assert kept == f"a{text}b".replace("\r\n", "\n").replace("\r", "\n")


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"], ids=ascii)
def test_a_lone_surrogate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"U\+D"):
        visible_rule(1, 200, lines=True)(text)


@pytest.mark.parametrize("text", ["नमस्ते", "日本語", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "שָׁלוֹם", "e\u0301", "!", "Ⅷ", "ﷺ"])
def test_every_language_and_emoji_is_taken(text: str) -> None:
    assert visible_rule(1, 200)(text)


def test_a_text_is_trimmed_and_composed_before_it_is_measured() -> None:
    assert visible_rule(2, 255)("  Ada  ") == "Ada"
    assert visible_rule(1, 255)("e\u0301" * 255) == "é" * 255
    for short in ("e\u0301", " a ", "a"):
        with pytest.raises(ValueError, match="2 to 255"):
            visible_rule(2, 255)(short)
    assert visible_rule(1, 200, lines=True, as_sent=True)(" e\u0301\r\n") == " e\u0301\r\n"


@given(st.text(max_size=6) | st.text(st.sampled_from([*INVISIBLE, *CONTROLS, "a", " ", "\n", "\u0301"]), max_size=4))
@example("0\U0001fffe")
def test_the_document_and_the_door_agree_about_a_text(text: str) -> None:
    documented = jsonschema_rs.Draft202012Validator(SCHEMA["name"]).is_valid(text)
    _, faults = apply_rules(Texts, Texts(text))
    # A schema cannot count after normalisation.
    assert documented == (not faults) or "2 to 255" in faults[0].message


# Applying ------------------------------------------------------------------------------------------------------------


def test_rules_reach_into_lists_unions_and_nested_objects_and_name_each_place() -> None:
    class Outer(msgspec.Struct, rename="camel"):
        many: list[Texts]
        one_more: Texts | None = None

    sent = {"many": [{"name": " Ada ", "to": ["A@B.example"]}, {"name": "\u200b\u200b"}], "oneMore": {"name": "x\x07y"}}
    read, faults = apply_rules(Outer, msgspec.convert(sent, Outer))
    assert (read.many[0].name, read.many[0].to) == ("Ada", ["A@b.example"])
    assert [fault.path for fault in faults] == ["many[1].name", "oneMore.name"]
    assert rules_of(int) is rules_of(list[str]) is rules_of(str | None) is None


def test_a_union_with_two_rules_cannot_be_declared() -> None:
    other = Annotated[str, field_rule(str.strip, {})]
    with pytest.raises(TypeError):
        rules_of(Email | other)  # type: ignore[operator]


def described(kind: Any) -> Sequence[tuple[str, str, Any]]:
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return ()
    return [(kind.__name__, field.name, field.type) for field in msgspec.structs.fields(kind)]


READ = {
    kind for shape in map(shape_of, ROUTES) for kind in (shape.body, shape.query) if kind not in (bytes, type(None))
} | {ImportedUser, MailRequested}
BY_RULE = {"email", "to", "full_name", "title", "note"}


def test_each_address_name_title_and_note_is_read_by_a_rule_at_every_door() -> None:
    found = [(kind, name, rules_of(each)) for door in READ for kind, name, each in described(door) if name in BY_RULE]
    assert {name for _, name, _ in found} == BY_RULE
    assert [(kind, name) for kind, name, rule in found if rule is None] == []
