"""Uploads by the clients that people use: tuspy, tus-js-client and aiotus, interrupted and resumed, on both stores."""

import asyncio
import hashlib
import http.client
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

import aiotus
import psutil
import pytest
from kit.people import Person, UserFactory
from kit.running import Up, data_folder, request, until
from kit.s3 import KEY_ID, REGION, SECRET_KEY, S3Server, s3_server
from tusclient.client import TusClient

from callboard.ops.embedded.data_directory import free_ports

MEGABYTE = 1 << 20
ROOM = {"MAX_UPLOAD_SIZE_MB": "200", "RATE_LIMIT_UPLOADS": "1000"}
TUS = {"Tus-Resumable": "1.0.0"}
BYTES = TUS | {"Content-Type": "application/offset+octet-stream"}
SCRIPT = Path(__file__).parent / "tus"
Files = Callable[[int], Path]


class Place:
    """A `callboard up` that can be killed, and is started again on its data and its port."""

    def __init__(self, data: Path) -> None:
        (port,) = free_ports(1)
        self.data = data
        self.environment = ROOM | {"HTTP_PORT": str(port)}
        self.start()
        self.person: Person = UserFactory(self.up.facts).person("member")

    @property
    def endpoint(self) -> str:
        return f"{self.up.api}/uploads"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.person.token}"}

    def start(self) -> None:
        self.up = Up(self.data, environment=self.environment).ready()

    def restart(self) -> None:
        """End it by SIGKILL, and start it again."""
        self.up.kill()
        self.start()

    def memory(self) -> int:
        return int(psutil.Process(self.up.pid).memory_info().rss)

    def tuspy(self, file: IO[bytes], chunk: int, **more: Any) -> Any:
        return TusClient(self.endpoint, headers=self.headers).uploader(file_stream=file, chunk_size=chunk, **more)

    def download(self, url: str, path: Path) -> None:
        """Check that what is downloaded are the bytes of the file, whole and by a range."""
        whole = request("GET", f"{url}/file", token=self.person.token, timeout_s=120)
        assert whole.status == 200, whole
        expected = path.read_bytes()
        assert hashlib.sha256(whole.body).digest() == hashlib.sha256(expected).digest()
        wanted = {"Range": f"bytes={len(expected) // 2}-{len(expected) - 2}"}
        part = request("GET", f"{url}/file", token=self.person.token, headers=wanted)
        assert (part.status, part.body) == (206, expected[len(expected) // 2 : -1])


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with data_folder() as data:
        place = Place(data)
        try:
            yield place
        finally:
            place.up.end()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server(small_parts=False) as server:
        yield server


@pytest.fixture
def files(tmp_path: Path) -> Callable[[int], Path]:
    def file(size: int) -> Path:
        path = tmp_path / f"{size}.bin"
        path.write_bytes(os.urandom(size))
        return path

    return file


class Broken:
    """An upload by one request, whose server is killed in the middle of its body."""

    def __init__(self, place: Place, data: bytes) -> None:
        self.place = place
        self.data = data
        sized = TUS | {"Upload-Length": str(len(data))}
        created = request("POST", place.endpoint, token=place.person.token, headers=sized)
        self.url = created.headers["Location"]

    def headers(self, offset: int) -> dict[str, str]:
        return BYTES | {"Upload-Offset": str(offset)}

    def offset(self) -> int:
        return int(request("HEAD", self.url, token=self.place.person.token, headers=TUS).headers["Upload-Offset"])

    def kill_in_the_middle(self) -> None:
        """Send three quarters, and kill the server when it has said that it keeps half."""
        url, length = urlsplit(self.url), {"Content-Length": str(len(self.data))}
        with closing(http.client.HTTPConnection(url.netloc, timeout=60)) as connection:
            connection.request("PATCH", url.path, b"", self.place.headers | self.headers(0) | length)
            connection.send(self.data[: len(self.data) * 3 // 4])
            until("progress", lambda: self.offset() >= len(self.data) // 2)
            self.place.up.kill()

    def finish(self) -> None:
        offset = self.offset()
        assert len(self.data) // 2 <= offset <= len(self.data) * 3 // 4

        def sent() -> bool:
            """Try until the lease of the dead process is over."""
            headers, token = self.headers(offset), self.place.person.token
            return (
                request("PATCH", self.url, token=token, raw=self.data[offset:], headers=headers, timeout_s=60).status
                == 204
            )

        until("the rest", sent)


class Watched(io.FileIO):
    """A file that calls `notify` once, when half of it is read."""

    def __init__(self, path: Path, notify: Callable[[], None]) -> None:
        super().__init__(path)
        self.notify: Callable[[], None] | None = notify
        self.half = path.stat().st_size // 2

    def read(self, size: int | None = -1) -> bytes | None:
        if self.tell() >= self.half and self.notify is not None and size != 0:
            notify, self.notify = self.notify, None
            notify()
        return super().read(size)


async def test_uploads_of_tuspy_and_aiotus_go_on_after_the_server_was_killed(place: Place, files: Files) -> None:
    large, small = files(100 * MEGABYTE), files(4 * MEGABYTE)
    with files(MEGABYTE).open("rb") as file:
        place.tuspy(file, MEGABYTE).upload()  # memory that the first upload takes is no growth
    before, most = place.memory(), 0
    with large.open("rb") as file:
        stopped = place.tuspy(file, 20 * MEGABYTE, metadata={"filename": "a.bin"})
        for _ in range(3):
            stopped.upload_chunk()
            most = max(most, place.memory())
    assert most - before < 64 * MEGABYTE
    broken = Broken(place, large.read_bytes()[: 32 * MEGABYTE])
    loop = asyncio.get_running_loop()

    def kill() -> None:
        """The test's own thread starts it again: a process ends with the thread that made it."""
        broken.kill_in_the_middle()
        loop.call_soon_threadsafe(place.start)

    with Watched(small, kill) as file:
        again = aiotus.RetryConfiguration(retry_attempts=10, max_retry_period_seconds=1)
        url = await aiotus.upload(
            place.endpoint, cast("IO[bytes]", file), config=again, headers=place.headers, chunksize=MEGABYTE
        )
        assert file.notify is None
    place.download(str(url), small)
    broken.finish()
    before = place.memory()
    with large.open("rb") as file:
        rest = place.tuspy(file, 20 * MEGABYTE, url=stopped.url)
        assert rest.offset == 60 * MEGABYTE
        rest.upload()
    assert place.memory() - before < 64 * MEGABYTE
    place.download(stopped.url, large)


async def test_aiotus_uploads_in_parallel_by_concatenation(place: Place, files: Files) -> None:
    paths = [files(3 * MEGABYTE + number) for number in range(3)]
    with ExitStack() as opened:
        url = await aiotus.upload_multiple(
            place.endpoint,
            [opened.enter_context(path.open("rb")) for path in paths],
            headers=place.headers,
            chunksize=MEGABYTE,
            parallel_uploads=2,
        )
    whole = paths[0].with_name("whole")
    whole.write_bytes(b"".join(path.read_bytes() for path in paths))
    place.download(str(url), whole)


@pytest.fixture(scope="module")
def tus_js() -> Path:
    """tus-js-client, installed once beside the packages of the tests."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("there is no npm to install tus-js-client with")
    folder = Path(os.environ.get("VIRTUAL_ENV") or Path(__file__).parents[3] / ".venv") / "tus-js-client"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(SCRIPT / name, folder)
    if not (folder / "node_modules" / "tus-js-client").is_dir():
        command = ["npm", "ci", "--silent", "--no-fund", "--no-audit", "--prefix", str(folder)]
        done = subprocess.run(command, capture_output=True, timeout=120, check=False)  # noqa: S603 - a command of ours
        if done.returncode:
            pytest.skip(f"tus-js-client cannot be installed: npm ci ended with {done.returncode}")
    return folder / "client.mjs"


def run_js(script: Path, place: Place, path: Path, *more: str) -> tuple[int, str]:
    command = ["node", str(script), place.endpoint, place.person.token, str(path), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603 - a command of ours
    assert "rror" not in done.stderr, done.stderr
    return done.returncode, done.stdout.split()[-1]


def test_tus_js_client_goes_on_after_it_was_killed(place: Place, files: Files, tus_js: Path) -> None:
    path = files(16 * MEGABYTE)
    status, url = run_js(tus_js, place, path, "1", str(7 * MEGABYTE))
    assert status == -9
    assert run_js(tus_js, place, path, "1", "", url) == (0, url)
    place.download(url, path)
    headers = request("GET", f"{url}/file", token=place.person.token).headers
    assert headers["Content-Disposition"].endswith("filename*=UTF-8''na%C3%AFve%20film.bin")
    assert headers["Content-Type"] == "application/octet-stream"  # and not what the client said


def test_tus_js_client_uploads_in_parallel_by_concatenation(place: Place, files: Files, tus_js: Path) -> None:
    path = files(10 * MEGABYTE)
    status, url = run_js(tus_js, place, path, "3")
    assert status == 0
    place.download(url, path)


def test_in_a_bucket_an_upload_goes_on_after_the_server_was_killed(place: Place, s3: S3Server, files: Files) -> None:
    bucket = s3.settings().bucket
    place.environment |= {
        "AWS_S3_BUCKET": bucket,
        "AWS_ENDPOINT_URL": s3.url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }
    place.restart()
    path = files(13 * MEGABYTE + 5)
    with path.open("rb") as file:
        stopped = place.tuspy(file, 7 * MEGABYTE)
        stopped.upload_chunk()
        place.restart()
        rest = place.tuspy(file, 4 * MEGABYTE, url=stopped.url)
        assert rest.offset == 7 * MEGABYTE
        rest.upload()
    place.download(stopped.url, path)
    removed = request("DELETE", stopped.url, token=place.person.token, headers=TUS)
    assert removed.status == 204, removed
    until("an empty bucket", lambda: s3.keys(bucket) == [])
