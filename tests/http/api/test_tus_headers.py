"""The headers of tus: what is taken, what is refused and by which name, and that nothing else can happen."""

import base64
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy

from callboard.actors.editorial.errors import UPLOADS_VERSION
from callboard.actors.editorial.upload_records import NewUpload, UploadKind
from callboard.actors.errors import REQUEST_INVALID, Problem
from callboard.http.api import tus_headers as tus

IDS = [UUID(int=number) for number in (1, 2)]


def of(*pairs: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(pairs))


def b64(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def fields_of(call: Any, *pairs: tuple[str, str]) -> list[str]:
    """The headers that a refusal names."""
    with pytest.raises(Problem) as refused:
        call(of(*pairs))
    assert refused.value.code is REQUEST_INVALID
    return [each.field for each in refused.value.details]


@pytest.mark.parametrize("sent", [(), ("0.2.2",), ("1.0",), ("1.0.0", "1.0.0"), ("",), ("1.0.0, 1.0.0",), (" 1.0.0",)])
def test_one_version_of_the_protocol_is_taken(sent: tuple[str, ...]) -> None:
    tus.check_version(of(("Tus-Resumable", "1.0.0")))
    with pytest.raises(Problem) as refused:
        tus.check_version(of(*(("tus-resumable", each) for each in sent)))
    assert refused.value.code is UPLOADS_VERSION


def test_numbers_are_plain_digits() -> None:
    assert tus.number(of(("Upload-Length", "0")), tus.LENGTH) == 0
    assert tus.number(of(("Upload-Length", "9" * 18)), tus.LENGTH) == 10**18 - 1
    assert tus.number(of(), tus.LENGTH) is None
    bad = ("-1", "+1", "1.0", "1e3", "", " ", "0x10", "٣", "1_000", "1,1", "9" * 19, "NaN", "1 ", "²")
    for text in bad:
        assert fields_of(lambda headers: tus.number(headers, tus.LENGTH), ("Upload-Length", text)) == ["Upload-Length"]
    twice = (("Upload-Offset", "1"), ("Upload-Offset", "1"))
    assert fields_of(tus.offset_of, *twice) == ["Upload-Offset"]
    assert fields_of(tus.offset_of) == ["Upload-Offset"]


def test_a_creation_has_either_a_length_or_says_that_it_comes_later() -> None:
    assert tus.new_upload(of(("Upload-Length", "5"))) == NewUpload(size=5)
    assert tus.new_upload(of(("Upload-Defer-Length", "1"))) == NewUpload(size=None)
    for pairs, field in (
        ((), "Upload-Length"),
        ((("Upload-Length", "5"), ("Upload-Defer-Length", "1")), "Upload-Length"),
        ((("Upload-Defer-Length", "2"),), "Upload-Defer-Length"),
        ((("Upload-Defer-Length", "true"),), "Upload-Defer-Length"),
    ):
        assert fields_of(tus.new_upload, *pairs) == [field]


def test_parts_are_named_by_absolute_or_relative_urls() -> None:
    urls = f"/api/v1/uploads/{IDS[0]} https://board.example:8000/below/api/v1/uploads/{str(IDS[1]).upper()}?x=1"
    assert tus.new_upload(of(("Upload-Concat", f"final;{urls}"))) == NewUpload(UploadKind.FINAL, parts=tuple(IDS))
    assert tus.new_upload(of(("Upload-Concat", f"final; {urls}"))).parts == tuple(IDS)
    partial = (("Upload-Concat", "partial"), ("Upload-Length", "1"))
    assert tus.new_upload(of(*partial)) == NewUpload(UploadKind.PARTIAL, 1)
    one = f"/api/v1/uploads/{IDS[0]}"
    for bad in (
        *("final", "final;", "Final;" + one, "partial;" + one, "", "whole", "final," + one),
        *(f"final;/api/v1/content/{IDS[0]}", f"final;{one}/file", f"final;{IDS[0]}", "final;/api/v1/uploads/x"),
        *("final;http://[", f"final;{one} x", f"final;{one}/../../{IDS[1]}", "final;" + " ".join([one] * 201)),
    ):
        assert fields_of(tus.new_upload, ("Upload-Concat", bad)) == ["Upload-Concat"], bad
    assert fields_of(tus.new_upload, ("Upload-Concat", "final;" + one), ("Upload-Length", "1")) == ["Upload-Length"]


def test_metadata_is_pairs_whose_values_may_be_empty() -> None:
    assert tus.metadata_of("") == {}
    sent = f"filename {b64('wörld.pdf')},is_confidential, empty ,type {b64('a/b')}"
    assert tus.metadata_of(sent) == {
        "filename": "wörld.pdf".encode(),
        "is_confidential": b"",
        "empty": b"",
        "type": b"a/b",
    }
    new = tus.new_upload(of(("Upload-Length", "1"), ("Upload-Metadata", sent)))
    assert (new.filename, new.declared_type, new.metadata) == ("wörld.pdf", "a/b", sent)


@pytest.mark.parametrize(
    "bad",
    [
        *(",", "a,", ",a", "a YQ==,a YQ==", "a YQ", "a Y!==", "a YQ==,,b", "a  YQ==", "a YQ== YQ==", "a\tYQ=="),
        *("schlüssel YQ==", "a YQ===", "a =", "a -_==", "a" * 101, "a " + "A" * 4096, "a \x00"),
        ",".join(f"k{number}" for number in range(33)),
    ],
)
def test_malformed_metadata_is_refused(bad: str) -> None:
    assert fields_of(lambda _: tus.metadata_of(bad)) == ["Upload-Metadata"]


@pytest.mark.parametrize(
    "name", [b"\xff", "a\x00b", "a\nb", "\u202eexe.txt", "\u200b", "a" * 256, "a\x1b[31m"], ids=repr
)
def test_a_name_that_could_not_be_shown_is_refused(name: str | bytes) -> None:
    sent = (("Upload-Length", "1"), ("Upload-Metadata", f"filename {b64(name)}"))
    assert fields_of(tus.new_upload, *sent) == ["Upload-Metadata"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\con", "a/b", ".", "a;b", '"', "%2e%2e", "名前.txt"])
def test_a_name_of_any_form_is_only_a_name(name: str) -> None:
    sent = of(("Upload-Length", "1"), ("Upload-Metadata", f"filename {b64(name)}"))
    assert tus.new_upload(sent).filename == name


def test_a_declared_type_that_is_no_type_is_none() -> None:
    for sent, expected in (
        ("Video/MP4", "video/mp4"),
        ("text/html; charset=x", None),
        ("x", None),
        ("a/b\r\nX: y", None),
    ):
        headers = of(("Upload-Length", "1"), ("Upload-Metadata", f"filetype {b64(sent)}"))
        assert tus.new_upload(headers).declared_type == expected


def test_a_checksum_names_its_algorithm_and_has_its_length() -> None:
    good = tus.checksum_of(of(("Upload-Checksum", f"sha1 {b64(b'x' * 20)}")))
    assert good is not None
    assert (good.algorithm, good.digest) == ("sha1", b"x" * 20)
    for bad in ("sha1", "sha1 ", f"sha1 {b64(b'x' * 19)}", f"SHA1 {b64(b'x' * 20)}", f"crc32 {b64(b'xxxx')}", "sha1 !"):
        assert fields_of(tus.checksum_of, ("Upload-Checksum", bad)) == ["Upload-Checksum"]


TEXT = st.text(st.characters(codec="latin-1"), max_size=60)
NAMES = st.sampled_from([tus.CONCAT, tus.CHECKSUM, tus.DEFER, tus.LENGTH, tus.METADATA, tus.OFFSET, tus.RESUMABLE])
LIKELY = st.one_of(
    TEXT,
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["1", "partial", "1.0.0", f"final;/api/v1/uploads/{IDS[0]}"]),
    st.lists(st.tuples(TEXT, st.binary(max_size=9).map(b64)).map(" ".join), max_size=4).map(",".join),
    st.text("\udcff\udc80a ,;=", max_size=20),  # bytes that are not UTF-8, as the server reads them
)


def refusal_of(call: Any, headers: CIMultiDictProxy[str]) -> Problem | None:
    try:
        call(headers)
    except Problem as problem:
        return problem
    return None


@given(st.lists(st.tuples(NAMES, LIKELY), max_size=6))
def test_any_headers_are_taken_or_refused_by_name(pairs: list[tuple[str, str]]) -> None:
    headers = of(*pairs)
    for call in (tus.check_version, tus.new_upload, tus.checksum_of, tus.offset_of):
        refusal = refusal_of(call, headers)
        named = refusal is not None and refusal.code is REQUEST_INVALID and refusal.details
        assert refusal is None or refusal.code is UPLOADS_VERSION or named
