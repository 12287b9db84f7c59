"""The media type of a file: by its bytes, whatever its client says."""

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callboard.actors.editorial.media_types import HEAD, IMAGES, OCTETS, TEXT, is_among, media_type_of, parse_types

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 "


def boxed(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x20ftyp" + brand + b"\x00\x00\x02\x00" + brand + b"mp41" + b"\x00" * 64


def zipped(name: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, "text")
    return file.getvalue()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF89a\x01\x00", "image/gif"),
        (WEBP, "image/webp"),
        (boxed(b"avif"), "image/avif"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "application/pdf"),
        (zipped("a.txt"), "application/zip"),
        (b"ID3\x04\x00", "audio/mpeg"),
        (boxed(b"M4A "), "audio/mp4"),
        (boxed(b"M4B "), "audio/mp4"),
        (boxed(b"heic"), "image/heic"),
        (boxed(b"heix"), "image/heic"),
        (b"# Notes\n\n- caf\xc3\xa9\n", TEXT),
        (("東".encode() * HEAD)[:HEAD], TEXT),  # the last character is cut
        ("東".encode()[:2], OCTETS),
        (b"", OCTETS),
        (b"a\x00b", OCTETS),
        (b"caf\xe9", OCTETS),
        (b"\x1f\x8b\x08\x00", "application/gzip"),
    ],
)
def test_a_file_is_what_its_first_bytes_say(head: bytes, kind: str) -> None:
    assert media_type_of(head) == kind
    assert media_type_of(head, "image/png") == kind
    assert media_type_of(head, "video/mp4") == kind


@pytest.mark.parametrize(
    "head",
    [
        boxed(b"isom"),
        boxed(b"iso6"),  # what ffmpeg writes for streaming
        boxed(b"hvc1"),
        boxed(b"hevc"),
        boxed(b"avis"),
        boxed(b"XAVC"),
        boxed(b"qt  "),
        boxed(b"\x00\x00\x00\x00"),
        b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat",
        b"\x00\x00\x10\x00moov\x00\x00\x00\x6cmvhd",
        b"\x1aE\xdf\xa3\x01\x00\x00\x00\x00\x00\x00\x23B\x86\x81\x01B\xf7\x81\x01B\xf2\x81\x04B\xf3\x81\x08B\x82\x84webm",
        b"OggS\x00\x02" + b"\x00" * 22 + b"\x80theora\x03\x02",
        (b"\x47" + b"\x00" * 187) * 4,
        b"\x00\x00\x01\xba" + b"\x00" * 12,
        b"FLV\x01\x05",
        b"RIFF\x00\x00\x00\x00AVI LIST",
        b".RMF\x00\x00\x00\x12",
    ],
)
def test_a_video_is_a_video_by_whatever_name(head: bytes) -> None:
    assert media_type_of(head, "text/plain").startswith("video/")


@pytest.mark.parametrize(
    "head",
    [
        b"<!doctype html><script>alert(1)</script>",
        b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        b"\xef\xbb\xbf<html>",
        b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>",
    ],
)
def test_markup_that_a_browser_would_run_is_text_and_no_image(head: bytes) -> None:
    assert media_type_of(head, "image/svg+xml") == TEXT
    assert "image/svg+xml" not in IMAGES


def test_accepted_types_are_patterns_of_media_types() -> None:
    assert parse_types(" image/PNG, video/*,") == ("image/png", "video/*")
    assert parse_types("*/*") == ("*/*",)
    for bad in ("", " , ", "png", "*", "*/png", "image/", "image/png;q=1", "image/*png", "a/b c"):
        with pytest.raises(ValueError, match="media types"):
            parse_types(bad)
    assert is_among("image/png", ("text/plain", "image/*"))
    assert is_among("text/plain", ("text/plain",))
    assert is_among("application/octet-stream", ("*/*",))
    assert not is_among("text/plain", ("image/*", "text/html"))


@given(
    st.binary(max_size=600),
    st.sampled_from([b"", b"PK\x03\x04", b"RIFF", b"OggS", b"\x00\x00\x00\x18ftyp", b"MZ", b"BM"]),
)
def test_any_bytes_have_a_type(tail: bytes, start: bytes) -> None:
    kind = media_type_of(start + tail)
    assert kind.count("/") == 1
    assert len(kind) <= 127
