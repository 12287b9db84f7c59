"""The lines of an import: each is read or named, whatever the others are."""

import csv
import io
import json
from typing import Any

import pytest

from callboard.actors.identity.user_import import ImportedUser
from callboard.ops.commands import user_import
from callboard.ops.commands.user_import import MAX_LINE_BYTES, TOLD_THERE, Import, ParsedLine, read_lines


def jsonl(*entries: Any) -> bytes:
    return b"".join((each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n" for each in entries)


def table(*rows: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def faults(content: bytes, form: str) -> dict[int, list[str]]:
    return {
        line.number: [fault.field or fault.message for fault in line.faults]
        for line in read_lines(io.BytesIO(content), form)
        if line.candidate is None
    }


def test_every_fault_of_a_line_is_named_and_the_lines_after_it_are_read() -> None:
    good = {"email": "a@example.org", "full_name": "Al"}
    content = jsonl(
        good,
        {"email": "nobody", "full_name": "", "password_hash": "md5"},
        {"email": 7, "role": "king", "shoe_size": 41},
        b"{",
        b'{"email": "\xff@example.org"}',
        b"[" * 5000,
        b"",
        good | {"full_name": "x" * MAX_LINE_BYTES},
        good | {"created_at": "2020-01-01T00:00:00"},
        good | {"full_name": "a\0b"},
        b'{"email": "a@example.org", "full_name": "Al", "\\u0065mail": "b@example.org"}',
        b'{"email": "a@example.org", "full_name": "Al: or not"}',
        good | {"password_hash": None, "created_at": "2020-01-01T00:00:00Z", "is_verified": True, "role": "editor"},
    )
    assert faults(content, "jsonl") == {
        2: ["email", "full_name", "password_hash"],
        3: ["email", "full_name", "role", "shoe_size"],
        4: ["is not JSON"],
        5: ["is not JSON"],
        6: ["is not JSON"],
        8: [f"has more than {MAX_LINE_BYTES} bytes"],
        9: ["created_at"],
        10: ["full_name"],
        11: ["email"],
    }


async def test_a_line_whose_address_has_an_account_is_named_and_of_many_those_in_the_errors_file() -> None:
    lines = [
        ParsedLine(number, ImportedUser(email=email, full_name="Al"))
        for number, email in enumerate(["a@example.org", "A@example.org", *(f"p{n}@example.org" for n in range(30))])
    ]

    async def send(batch: list[ImportedUser]) -> list[str]:
        return [batch[0].email]

    said: list[str] = []
    errors = io.StringIO()
    run = Import(send, errors, said.append)
    for line in lines:
        await run.take(line)
    await run.flush()
    assert str(run) == "1 imported, 31 there already, 0 bad"
    assert [json.loads(each)["line"] for each in errors.getvalue().splitlines()] == list(range(1, 32))
    assert len(said) == TOLD_THERE + 1


def test_a_time_outside_of_the_years_of_utc_is_a_fault_of_its_line_alone() -> None:
    good = {"email": "a@example.org", "full_name": "Al"}
    early = good | {"created_at": "0001-01-01T00:00:00+14:00"}
    late = good | {"created_at": "9990-01-01T00:00:00Z"}
    assert faults(jsonl(good, early, late, good), "jsonl") == {2: ["created_at"], 3: ["created_at"]}


def test_a_number_is_no_time() -> None:
    rows = [{"email": "a@example.org", "full_name": "Al", "created_at": time} for time in ("1767225600", "1e9", "")]
    assert faults(table(*rows), "csv") == {2: ["created_at"], 3: ["created_at"]}


def test_a_table_is_read_alike_and_a_record_is_a_line() -> None:
    head = b"\xef\xbb\xbfemail,full_name,password_hash,is_verified\r\n"
    lines = [
        b'a@example.org,"Ada,\nthe first",,true\r\n',  # lines 2 and 3: a quote that is not closed, and one that is not
        b"b@example.org,B,,maybe\r\n",
        b"c@example.org,C\r\n",
        b"d@example.org,\xff,,\r\n",
        b'e@example.org,"E"x,,\r\n',
        b"f@example.org," + b"x" * MAX_LINE_BYTES + b",,\r\n",
        b"\r\n",
        b"g@example.org,Gus,,1\r\n",
    ]
    read = list(read_lines(io.BytesIO(head + b"".join(lines)), "csv"))
    assert {line.number for line in read if line.candidate is None} == {2, 3, 4, 5, 6, 7, 8}
    good = [line.candidate for line in read if line.candidate]
    assert [(each.email, each.full_name, each.is_verified) for each in good] == [("g@example.org", "Gus", True)]


def test_a_line_that_is_too_long_is_not_taken_for_what_fits_of_it() -> None:
    long = b"a@example.org,A" + b" " * MAX_LINE_BYTES + b"da\n"
    assert [*faults(b"email,full_name\n" + long + b"b@example.org,Bo\n", "csv")] == [2]


GOOD = b"g@example.org,Gus"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'a@example.org,"Ada', "has a quote that is not closed: a field may not go over several lines"),
        (b'"a@example.org,Ada', "has a quote that is not closed: a field may not go over several lines"),
        (b'a@example.org,"Ada"x', "is not CSV"),
        (b"a@example.org,Ada,more", "has 3 fields, and 2 columns"),
        (b"a@example.org", "has 1 fields, and 2 columns"),
        (b"a@example.org,\xff", "is not UTF-8"),
        (b"a@example.org,A\0da", "full_name"),
        (b"a@example.org,\xe2\x80\xae\xe2\x80\x8b", "full_name"),
        (b"a@example.org," + b"x" * MAX_LINE_BYTES, "has more than"),
        (b"a@example.org," + b"x" * (3 * MAX_LINE_BYTES), "has more than"),
    ],
    ids=[
        "open quote",
        "open quote first",
        "after a quote",
        "more",
        "less",
        "bytes",
        "NUL",
        "invisible",
        "long",
        "longer",
    ],
)
def test_a_lost_line_is_named_and_takes_no_other_with_it(line: bytes, said: str, end: bytes) -> None:
    content = end.join([b"\xef\xbb\xbfemail,full_name", GOOD, line, GOOD, line, GOOD, b""])
    read = list(read_lines(io.BytesIO(content), "csv"))
    bad = [each for each in read if each.candidate is None]
    assert [each.number for each in bad] == [3, 5]
    assert [each.number for each in read if each.candidate] == [2, 4, 6]
    for each in bad:
        assert said in f"{each.faults[0].field} {each.faults[0].message}"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_lines_are_the_same_wherever_a_piece_of_the_file_ends(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_import, "CHUNK_BYTES", size)
    content = b"email,full_name\r\n\r\na@example.org,Ada\rb@example.org,Bo\n\rc@example.org,Cy"
    read = list(read_lines(io.BytesIO(content), "csv"))
    assert [(each.number, each.candidate and each.candidate.full_name) for each in read] == [
        (3, "Ada"),
        (4, "Bo"),
        (6, "Cy"),
    ]
