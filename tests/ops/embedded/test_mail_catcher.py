"""The mail catcher: what it has answered for is on disk."""

import asyncio
import contextlib
import os
import socket
from email.message import EmailMessage
from itertools import repeat
from pathlib import Path

import aiosmtplib
import anyio
import pytest

from callboard.ops.embedded import mail_catcher as catcher_module
from callboard.ops.embedded.data_directory import DataDirectory, free_ports
from callboard.ops.embedded.errors import EmbeddedError
from callboard.ops.embedded.mail_catcher import Catcher


def letter(subject: str = "Grüße", html: str | None = None) -> EmailMessage:
    message = EmailMessage()
    message["From"] = "callboard@example.com"
    message["To"] = "reader@example.com"
    message["Subject"] = subject
    message["Message-ID"] = "<one@example.com>"
    message.set_content("Follow https://example.com/?token=x\n.\nä\n")
    if html is not None:
        message.add_alternative(html, subtype="html")
    return message


async def send(catcher: Catcher, message: EmailMessage, *to: str) -> None:
    host, _, port = catcher.url.partition(":")
    await aiosmtplib.send(message, hostname=host, port=int(port), recipients=to or ["reader@example.com"])


@pytest.fixture
def catcher(place: DataDirectory) -> Catcher:
    return Catcher(place, free_ports(1)[0])


async def test_a_mail_is_shown_as_it_was_sent(catcher: Catcher) -> None:
    await catcher.start()
    try:
        await send(catcher, letter(html="<p>Hällo</p>"), "a@example.com", "b@example.com")
        (mail,) = catcher.mails()
        assert mail.to == "a@example.com, b@example.com"
        assert mail.subject == "Grüße"
        assert mail.text.replace("\r\n", "\n") == "Follow https://example.com/?token=x\n.\nä\n"
        assert mail.html.strip() == "<p>Hällo</p>"
    finally:
        await catcher.stop()


async def test_the_newest_comes_first_and_one_sent_twice_is_seen_twice(catcher: Catcher) -> None:
    await catcher.start()
    try:
        for subject in ("first", "again", "again"):
            await send(catcher, letter(subject))
        mails = catcher.mails()
        assert [mail.subject for mail in mails] == ["again", "again", "first"]
        assert mails[0].received_at > mails[1].received_at > mails[2].received_at
    finally:
        await catcher.stop()


async def test_mails_are_kept_across_a_restart_though_the_clock_stands_still(place: DataDirectory) -> None:
    stopped_clock = repeat(1_700_000_000_000_000_000)
    for lives in (1, 2):
        catcher = Catcher(place, free_ports(1)[0], clock_ns=lambda: next(stopped_clock))
        await catcher.start()
        try:
            await send(catcher, letter(f"life {lives}"))
        finally:
            await catcher.stop()
    assert [mail.subject for mail in catcher.mails()] == ["life 2", "life 1"]


async def test_a_mail_is_on_disk_before_its_sender_is_told_so(
    place: DataDirectory, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_mode))
    await catcher.start()
    try:
        await send(catcher, letter())
        assert len(synced) == 2  # the file and its folder
        (file,) = place.folder("mail").iterdir()
        assert file.read_bytes().startswith(b"X-Callboard-Recipient: reader@example.com\r\n")
    finally:
        await catcher.stop()


async def test_many_at_once_all_arrive(catcher: Catcher) -> None:
    await catcher.start()
    try:
        async with anyio.create_task_group() as senders:
            for number in range(20):
                senders.start_soon(send, catcher, letter(str(number)))
        mails = catcher.mails()
        assert {mail.subject for mail in mails} == {str(number) for number in range(20)}
        assert mails == sorted(mails, key=lambda mail: mail.received_at, reverse=True)
    finally:
        await catcher.stop()


async def test_only_the_newest_are_kept(
    place: DataDirectory, catcher: Catcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catcher_module, "MAILS_KEPT", 2)
    await catcher.start()
    try:
        for subject in ("one", "two", "three"):
            await send(catcher, letter(subject))
        assert [mail.subject for mail in catcher.mails()] == ["three", "two"]
        assert len(list(place.folder("mail").iterdir())) == 2
    finally:
        await catcher.stop()


async def test_a_mail_that_is_too_large_is_refused(catcher: Catcher) -> None:
    large = letter()
    large.add_attachment(b"x" * (8 << 20), maintype="application", subtype="octet-stream")
    await catcher.start()
    try:
        with pytest.raises(aiosmtplib.SMTPResponseException) as refused:
            await send(catcher, large)
        assert refused.value.code == 552
        assert catcher.mails() == []
    finally:
        await catcher.stop()


async def test_a_full_disk_is_a_transient_failure(catcher: Catcher, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    await catcher.start()
    try:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(aiosmtplib.SMTPResponseException, match="No space left on device") as refused:
            await send(catcher, letter())
        assert refused.value.code == 451
    finally:
        await catcher.stop()


async def test_malformed_mails_are_shown_as_well_as_can_be(catcher: Catcher, place: DataDirectory) -> None:
    folder = place.folder("mail")
    bodies = [
        b"Subject: =?utf-9?q?what?=\r\nContent-Type: text/plain; charset=utf-9\r\n\r\nh\xc3\xa4\r\n",
        b"Subject: \xff\xfe\r\nContent-Type: multipart/mixed\r\n\r\nno boundary",
        b"",
        b"Subject: =?utf-8?b?!!!?=\r\nContent-Transfer-Encoding: base64\r\n\r\n%%%",
    ]
    for number, body in enumerate(bodies):
        (folder / f"{number:020d}.eml").write_bytes(body)
    (folder / "00000000000000000009.half").touch()
    await catcher.start()
    await catcher.stop()
    mails = catcher.mails()
    assert len(mails) == len(bodies)
    assert mails[-1].text == "hä\r\n"
    assert not list(folder.glob("*.half"))


async def test_a_taken_port_is_one_line_and_stopping_hangs_up(place: DataDirectory, catcher: Catcher) -> None:
    await catcher.start()
    host, _, port = catcher.url.partition(":")
    second = Catcher(place, int(port))
    with pytest.raises(EmbeddedError, match=r"^the mail catcher cannot listen on "):
        await second.start()
    reader, writer = await asyncio.open_connection(host, int(port))
    assert (await reader.readline()).startswith(b"220 ")
    await catcher.stop()
    assert await catcher.exited() == "was stopped"
    with anyio.fail_after(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((host, int(port)), timeout=1)


def test_a_missing_library_is_one_line(place: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catcher_module, "wheel_folder", lambda _: None)
    with pytest.raises(EmbeddedError, match=r"^no embedded SMTP server: install callboard"):
        Catcher(place, 1)
    assert isinstance(place.data, Path)
