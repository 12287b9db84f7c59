"""A server of S3 for tests: moto's, in a process of its own."""

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

import boto3

from callboard.actors.infrastructure.s3_connection import S3Settings
from callboard.actors.infrastructure.s3_store import S3Store
from callboard.ops.embedded.data_directory import free_ports
from kit.running import _before_exec, until

KEY_ID, SECRET_KEY, REGION = "test-key", "test-secret-key", "us-east-1"
PART = 5 << 14  # bytes, in place of 5 MiB: the server is slow


class S3Server:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = boto3.client(
            "s3", endpoint_url=url, region_name=REGION, aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET_KEY
        )

    def settings(self, bucket: str = "") -> S3Settings:
        """The settings of a bucket, which is made unless it is given."""
        if not bucket:
            bucket = f"bucket-{uuid4().hex[:12]}"
            self.client.create_bucket(Bucket=bucket)
        return S3Settings(bucket, REGION, self.url, KEY_ID, SECRET_KEY)

    def store(self) -> S3Store:
        """A store in a bucket of its own, of small parts; it is not open."""
        return S3Store(self.settings(), part=PART)

    def keys(self, bucket: str) -> list[str]:
        """All objects of a bucket, and the keys of its multipart uploads."""
        objects = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        uploads = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return [each["Key"] for each in objects] + [f"part of {each['Key']}" for each in uploads]


def _answers(url: str) -> bool:
    with suppress(urllib.error.HTTPError):
        try:
            urllib.request.urlopen(url, timeout=1).close()  # noqa: S310 - on loopback
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            if not isinstance(error, urllib.error.HTTPError):
                return False
            raise
    return True


@contextmanager
def s3_server(*, small_parts: bool = True) -> Iterator[S3Server]:
    """Run a server for the block; with `small_parts` for stores of tests, which have such parts."""
    (port,) = free_ports(1)
    process = subprocess.Popen(  # noqa: S603 - a command of ours
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        env=os.environ | ({"S3_UPLOAD_PART_MIN_SIZE": str(PART)} if small_parts else {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_before_exec,  # noqa: PLW1509 - two system calls
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until("the S3 server", lambda: _answers(url))
        yield S3Server(url)
    finally:
        process.terminate()
        process.wait(10)
