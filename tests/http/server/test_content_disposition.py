"""Content-Disposition: any name is one safe file name on the client's disk, and one header."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.http.server.content_disposition import MAX_NAME, attachment, safe_name
from callboard.http.server.response import encoded

HEADER = re.compile(r"attachment; filename=\"([^\"\\%]+)\"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+\-.^_`|~%]+))?")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("notes.txt", 'attachment; filename="notes.txt"'),
        ("My notes (1).txt", 'attachment; filename="My notes (1).txt"'),
        (None, 'attachment; filename="file"'),
        ("", 'attachment; filename="file"'),
        ("Café.png", "attachment; filename=\"Cafe.png\"; filename*=UTF-8''Caf%C3%A9.png"),
        ("東京.pdf", "attachment; filename=\"pdf\"; filename*=UTF-8''%E6%9D%B1%E4%BA%AC.pdf"),
        ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
        ("€ rates", "attachment; filename=\"rates\"; filename*=UTF-8''%E2%82%AC%20rates"),
        ('a"b.txt', 'attachment; filename="a_b.txt"'),
        ("../../etc/passwd", 'attachment; filename="passwd"'),
        ("C:\\Windows\\system32\\evil.dll", 'attachment; filename="evil.dll"'),
        ("a\r\nSet-Cookie: b=c.txt", 'attachment; filename="aSet-Cookie_ b=c.txt"'),
        ("photo\u202egpj.exe", 'attachment; filename="photogpj.exe"'),  # it would be shown as photoexe.jpg
        ("a\x00b\x1b[31m", 'attachment; filename="ab[31m"'),
        ("..", 'attachment; filename="file"'),
        ("/", 'attachment; filename="file"'),
        (".bashrc", 'attachment; filename="bashrc"'),
        ("e\u0301.txt", "attachment; filename=\"e.txt\"; filename*=UTF-8''%C3%A9.txt"),
        ("\ud800x", 'attachment; filename="x"'),
    ],
)
def test_a_name_is_sent_so_that_every_client_reads_one_file_name(name: str | None, header: str) -> None:
    assert attachment(name) == header


def test_a_long_name_keeps_its_ending() -> None:
    assert safe_name("a" * 500 + ".tar.gz") == "a" * (MAX_NAME - 3) + ".gz"
    assert len(safe_name("語" * 500 + ".pdf").encode()) <= 255
    assert len(safe_name("a." + "b" * 500)) == MAX_NAME


@given(st.text(max_size=300))
def test_whatever_the_name_the_header_is_one_and_reads_back(name: str) -> None:
    header = attachment(name)
    assert encoded({"Content-Disposition": header}).count(b"\r\n") == 1
    assert header.isascii()
    match = re.fullmatch(
        r"attachment; filename=\"([^\"\\%]+)\"(?:; filename\*=UTF-8''([A-Za-z0-9!#$&+\-.^_`|~%]+))?", header
    )
    assert match is not None
    shown = unquote(match[2], errors="strict") if match[2] else match[1]
    assert shown == safe_name(name)
    assert not re.search(r"[/\\\x00-\x1f\x7f<>:\"|?*]", shown)
    assert shown.strip(" .") == shown != ""
