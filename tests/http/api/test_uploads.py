"""The tus server over real sockets: its protocol, and its refusals."""

import base64
import hashlib
import http.client
import socket
from collections.abc import Mapping
from contextlib import closing
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import pytest
from kit.people import Person, UserFactory
from kit.running import Up, request, until

MEGABYTE = 1 << 20
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
HELLO = b"hello world"


class Said(NamedTuple):
    """A response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(msgspec.json.decode(self.body)["error"]["code"])


def path_of(said: Said) -> str:
    """The path of what was made."""
    return urlsplit(said.headers["Location"]).path


class Client:
    """Speaks HTTP as it is told, as one person."""

    def __init__(self, api: str, person: Person) -> None:
        self.address = urlsplit(api).netloc
        self.person = person

    def ask(self, method: str, path: str = "/api/v1/uploads", body: Any = None, **headers: str) -> Said:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection(self.address, timeout=60)) as connection:
            token = {"Authorization": f"Bearer {self.person.token}"}
            connection.request(method, path, body, token | named)
            response = connection.getresponse()
            return Said(response.status, response.headers, response.read())

    def create(self, size: int | str = len(HELLO), **headers: str) -> str:
        """The path of a new upload."""
        said = self.ask("POST", **TUS, Upload_Length=str(size), **headers)
        assert said.status == 201, said
        return path_of(said)

    def append(self, path: str, offset: int, body: Any, **headers: str) -> Said:
        return self.ask("PATCH", path, body, **(BYTES | {"Upload-Offset": str(offset)} | headers))

    def offset(self, path: str) -> int:
        said = self.ask("HEAD", path, **TUS)
        assert said.status == 200, said
        assert said.headers["Cache-Control"] == "no-store"
        return int(said.headers["Upload-Offset"])


@pytest.fixture(scope="module")
def people(up: Up) -> UserFactory:
    return UserFactory(up.facts)


@pytest.fixture
def client(up: Up, people: UserFactory) -> Client:
    return Client(up.api, people.person("member"))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_an_upload_goes_through_creation_bytes_and_removal(client: Client) -> None:
    metadata = f"filename {b64(b'a.txt')},is_draft"
    path = client.create(Upload_Metadata=metadata)
    said = client.append(path, 0, HELLO[:5])
    assert (said.status, said.headers["Upload-Offset"], said.body) == (204, "5", b"")
    assert said.headers["Upload-Expires"].endswith(" GMT")
    said = client.ask("HEAD", path, **TUS)
    shown = {name: said.headers[name] for name in ("Upload-Offset", "Upload-Length", "Upload-Metadata")}
    assert shown == {"Upload-Offset": "5", "Upload-Length": str(len(HELLO)), "Upload-Metadata": metadata}
    assert client.append(path, 5, HELLO[5:]).headers["Upload-Offset"] == str(len(HELLO))
    state = msgspec.json.decode(client.ask("GET", path).body)["data"]
    assert (state["filename"], state["received"], state["completed_at"] is None) == ("a.txt", len(HELLO), False)
    assert client.ask("DELETE", path, **TUS).status == 204
    assert client.ask("HEAD", path, **TUS).status == 404


def test_the_first_bytes_may_come_with_the_creation(client: Client) -> None:
    said = client.ask("POST", body=HELLO[:5], **BYTES, Upload_Length=str(len(HELLO)))
    assert (said.status, said.headers["Upload-Offset"]) == (201, "5")
    assert client.append(path_of(said), 5, HELLO[5:]).status == 204
    said = client.ask("POST", body=HELLO, **BYTES, Upload_Length=str(len(HELLO)))
    assert (said.status, said.headers["Upload-Offset"], "Upload-Expires" in said.headers) == (201, "11", False)
    said = client.ask("POST", body=HELLO, **TUS, Content_Type="text/plain", Upload_Length="11")
    assert said.status == 415


def test_an_empty_upload_is_complete_at_once(client: Client) -> None:
    path = client.create(0)
    assert msgspec.json.decode(client.ask("GET", path).body)["data"]["completed_at"] is not None


def test_the_size_may_come_later(client: Client) -> None:
    said = client.ask("POST", **TUS, Upload_Defer_Length="1")
    path = path_of(said)
    assert client.ask("HEAD", path, **TUS).headers["Upload-Defer-Length"] == "1"
    client.append(path, 0, HELLO[:5])
    assert client.append(path, 5, HELLO[5:], **{"Upload-Length": "11"}).status == 204
    said = client.ask("HEAD", path, **TUS)
    assert (said.headers["Upload-Length"], "Upload-Defer-Length" in said.headers) == ("11", False)


def test_partial_uploads_become_a_final_one(client: Client, up: Up) -> None:
    parts = []
    for piece in (HELLO[:5], HELLO[5:]):
        said = client.ask("POST", body=piece, **BYTES, Upload_Length=str(len(piece)), Upload_Concat="partial")
        parts.append(path_of(said))
    base = up.api.removesuffix("/api/v1")
    said = client.ask("POST", **TUS, Upload_Concat=f"final;{parts[0]} {base}{parts[1]}")
    assert (said.status, said.headers["Upload-Offset"]) == (201, "11")
    path = path_of(said)
    said = client.ask("HEAD", path, **TUS)
    assert said.headers["Upload-Concat"] == f"final;{parts[0]} {parts[1]}"
    assert client.ask("HEAD", parts[0], **TUS).headers["Upload-Concat"] == "partial"
    assert client.append(path, 11, b"").code == "UPLOADS_FINAL_008"


def test_a_body_in_chunks_needs_no_length(client: Client) -> None:
    path = client.create()
    assert client.append(path, 0, iter((HELLO[:3], HELLO[3:]))).status == 204
    assert client.offset(path) == len(HELLO)
    path = client.create()
    assert client.append(path, 0, iter((HELLO, b"more"))).status == 413
    assert client.append(path, client.offset(path), HELLO[client.offset(path) :]).status == 204


def test_every_response_names_the_version_and_options_the_extensions(client: Client) -> None:
    path = client.create()
    for said in (client.ask("HEAD", path, **TUS), client.append(path, 1, b"x"), client.ask("POST", **TUS)):
        assert said.headers["Tus-Resumable"] == "1.0.0"
    for target in ("/api/v1/uploads", path):
        said = client.ask("OPTIONS", target)
        assert said.status == 204
        assert said.headers["Tus-Version"] == "1.0.0"
        assert said.headers["Tus-Max-Size"] == str(10 * MEGABYTE)
        assert "checksum" in said.headers["Tus-Extension"].split(",")
        assert said.headers["Tus-Checksum-Algorithm"] == "sha1,sha256,md5"


def test_another_version_is_refused_by_every_method(client: Client) -> None:
    path = client.create()
    for version in ({}, {"Tus-Resumable": "0.2.2"}):
        headers = {**BYTES, "Upload-Length": "1", "Upload-Offset": "0"}
        del headers["Tus-Resumable"]
        for method, target in (("POST", "/api/v1/uploads"), ("HEAD", path), ("PATCH", path), ("DELETE", path)):
            said = client.ask(method, target, **(headers | version))
            assert (said.status, said.headers["Tus-Version"]) == (412, "1.0.0"), method
    assert client.offset(path) == 0


def test_refusals_say_what_to_do(client: Client, people: UserFactory, up: Up) -> None:
    path = client.create()
    wrong = BYTES | {"Content-Type": "application/octet-stream", "Upload-Offset": "0"}
    said = client.ask("PATCH", path, HELLO, **wrong)
    assert (said.status, said.headers["Accept"]) == (415, "application/offset+octet-stream")
    assert client.ask("PATCH", path, HELLO, **(TUS | {"Upload-Offset": "0"})).status == 415
    assert client.append(path, 3, HELLO).code == "UPLOADS_OFFSET_002"
    for offset in ("-1", "1.5", "", "9" * 30):
        assert client.append(path, 0, HELLO, **{"Upload-Offset": offset}).status == 400
    assert client.append(path, 0, HELLO + b"!").code == "UPLOADS_TOO_LARGE_004"
    assert client.append(path, 0, HELLO, **{"Upload-Checksum": "crc32 AAAA"}).status == 400
    said = client.append(path, 0, HELLO, **{"Upload-Checksum": f"sha1 {b64(hashlib.sha1(b'x').digest())}"})  # noqa: S324
    assert (said.status, said.code) == (460, "UPLOADS_CHECKSUM_006")
    assert client.offset(path) == 0
    for size, status in (("-1", 400), ("x", 400), (str(10 * MEGABYTE + 1), 413), ("9" * 18, 413), ("9" * 19, 400)):
        assert client.ask("POST", **TUS, Upload_Length=size).status == status, size
    stranger = Client(up.api, people.person("admin"))
    for said in (stranger.ask("HEAD", path, **TUS), stranger.append(path, 0, HELLO), stranger.ask("GET", path)):
        assert said.status == 404
    assert client.ask("HEAD", f"/api/v1/uploads/{uuid4()}", **TUS).status == 404


def test_a_locked_upload_says_when_to_try_again(client: Client, up: Up) -> None:
    path = client.create()
    up.execute("update uploads set leased_until = now() + interval '1 hour' where upload_id::text = $1", path[-36:])
    headers = BYTES | {"Upload-Offset": "0"}
    url = up.api.removesuffix("/api/v1") + path
    said = request("PATCH", url, token=client.person.token, raw=HELLO, headers=headers)  # as the document has it
    assert (said.status, said.code, said.headers["Retry-After"]) == (423, "UPLOADS_LOCKED_003", "1")


def test_a_client_that_can_only_post_names_the_method(client: Client) -> None:
    path = client.create()
    headers = BYTES | {"Upload-Offset": "0"}
    assert client.ask("POST", path, HELLO, **headers, X_HTTP_Method_Override="PATCH").status == 204
    assert client.offset(path) == len(HELLO)
    assert client.ask("POST", path, **headers, X_HTTP_Method_Override="PUT").status == 400
    assert client.ask("POST", path, **headers).status == 400
    assert client.ask("POST", path, **TUS, X_HTTP_Method_Override="DELETE").status == 204
    assert client.ask("HEAD", path, **TUS).status == 404


def test_a_repeated_creation_with_its_key_makes_one_upload(client: Client) -> None:
    first, second = [client.ask("POST", **TUS, Upload_Length="5", Idempotency_Key="a key") for _ in range(2)]
    assert (first.status, second.status) == (201, 201)
    assert first.headers["Location"] == second.headers["Location"]
    metadata = f"filename {b64(b'a.txt')}"
    for changed in ({"Upload_Length": "6"}, {"Upload_Length": "5", "Upload_Metadata": metadata}):
        assert client.ask("POST", **TUS, **changed, Idempotency_Key="a key").code == "REQUEST_KEY_REUSED_009"


def test_a_declared_film_is_refused_and_the_flag_lets_it_in(client: Client, people: UserFactory, up: Up) -> None:
    film = f"filetype {b64(b'video/mp4')}"
    said = client.ask("POST", **TUS, Upload_Length="5", Upload_Metadata=film)
    assert (said.status, said.code) == (403, "UPLOADS_VIDEO_011")
    admin = Client(up.api, people.person("admin"))
    body = msgspec.json.encode({"is_on": True, "user_id": str(client.person.user_id)})
    said = admin.ask("PUT", "/api/v1/flags/enable_video_upload", body, Content_Type="application/json")
    assert said.status == 200, said
    assert client.ask("POST", **TUS, Upload_Length="5", Upload_Metadata=film).status == 201


def test_what_came_before_a_disconnection_is_kept(client: Client) -> None:
    path = client.create(MEGABYTE)
    head = (
        f"PATCH {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {client.person.token}\r\nTus-Resumable: 1.0.0\r\n"
        f"Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nContent-Length: {MEGABYTE}\r\n\r\n"
    )
    host, _, port = client.address.partition(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head.encode() + b"x" * 1000)
    until("the kept bytes", lambda: client.offset(path) == 1000)
    assert client.append(path, 1000, b"x" * (MEGABYTE - 1000)).headers["Upload-Offset"] == str(MEGABYTE)


def test_a_list_has_ones_own_uploads_newest_first(client: Client) -> None:
    paths = [client.create() for _ in range(3)]
    page = msgspec.json.decode(client.ask("GET", "/api/v1/uploads?limit=2").body)
    rest = msgspec.json.decode(client.ask("GET", f"/api/v1/uploads?cursor={page['page']['next_cursor']}").body)
    found = [f"/api/v1/uploads/{each['upload_id']}" for each in page["data"] + rest["data"]]
    assert found == paths[::-1]
