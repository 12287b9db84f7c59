"""haproxy and nginx in front of running processes, from the files of ops/deploy with the addresses of a test."""

import csv
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from callboard.ops.embedded.data_directory import free_ports
from kit.certificates import make_certificates
from kit.deployment import DEPLOY
from kit.running import until
from kit.wire import refuses

NAMES = ("one", "two", "three")


class Proxy(NamedTuple):
    """A running proxy: its port with TLS, its port without, the authority of its certificate, and its statistics."""

    port: int
    plain: int
    authority: Path
    statistics: Path


def program(name: str) -> str | None:
    """The path of haproxy or nginx; None if it is not installed. Debian keeps both where only root looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def configuration(name: str, folder: Path, proxy: Proxy, backends: Sequence[int]) -> str:
    """A file of ops/deploy with the ports, the certificate and the backends of a test, and nothing else changed."""
    text = (DEPLOY / "proxy" / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf"}[name]).read_text(encoding="utf-8")
    for address, port in zip(("192.0.2.11:8000", "192.0.2.12:8000", "192.0.2.13:8000"), backends, strict=True):
        assert address in text
        text = text.replace(address, f"127.0.0.1:{port}")
    text = re.sub(r"/etc/\w+/callboard\.pem", str(folder / "server.pem"), text)
    local = f"127.0.0.1:{proxy.plain}", f"127.0.0.1:{proxy.port} "
    if name == "haproxy":
        text = text.replace(":80\n", f"{local[0]}\n").replace(":443 ", local[1])
        return text.replace("global\n", f"global\n    stats socket {proxy.statistics} mode 600\n")
    text = text.replace("listen 80;", f"listen {local[0]};").replace("listen 443 ", f"listen {local[1]}")
    kept = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {each}_temp_path {folder};\n" for each in kept)
    text = text.replace("http {\n", f"http {{\n    access_log off;\n{paths}")
    return f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n{text}"


@contextmanager
def fronted(name: str, folder: Path, backends: Sequence[int]) -> Iterator[Proxy]:
    """A proxy that listens, in front of three ports of this machine; ended with the block."""
    port, plain = free_ports(2)
    _, authority = make_certificates(folder)
    proxy = Proxy(port, plain, authority, folder / "statistics")
    file = folder / name
    file.write_text(configuration(name, folder, proxy, backends), encoding="utf-8")
    found = program(name)
    assert found is not None
    command = [found, "-f" if name == "haproxy" else "-c", str(file)]
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)  # noqa: S603 - a program of Debian's
    try:
        until("a proxy that listens", lambda: process.poll() is not None or not refuses(("127.0.0.1", port)))
        assert process.poll() is None, (folder / "said").read_text(encoding="utf-8")
        yield proxy
    finally:
        process.terminate()
        process.wait(20)


def states(proxy: Proxy) -> dict[str, str]:
    """The state of each backend, as haproxy sees it: UP, DOWN, or on its way."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.connect(str(proxy.statistics))
        asking.sendall(b"show stat\n")
        text = b"".join(iter(lambda: asking.recv(65536), b"")).decode()
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {row["svname"]: row["status"] for row in rows if row["svname"] in NAMES}
