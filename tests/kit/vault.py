"""A real server of Vault's API: OpenBao in its development mode, with KV version 2 at `secret/`."""

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hvac

from callboard.ops.embedded.data_directory import free_ports, port_taken
from kit.running import until

BAO = Path(sys.executable).with_name("bao")
PATH = "production/callboard"


class VaultServer:
    """A server on a port of its own; it may be stopped and started again, empty."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = f"root-{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [str(BAO), "server", "-dev", "-dev-no-store-token", f"-dev-root-token-id={self.token}"]
        self._process = subprocess.Popen(  # noqa: S603 - from the wheel
            [*command, f"-dev-listen-address=127.0.0.1:{self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        )
        until("Vault", self._answers)

    def _answers(self) -> bool:
        try:
            return port_taken("127.0.0.1", self.port) and bool(self.admin.sys.is_initialized())
        except Exception:  # noqa: BLE001 - it is just starting
            return False

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    @property
    def admin(self) -> Any:
        return hvac.Client(url=self.url, token=self.token, timeout=10)

    def put(self, name: str, value: str) -> None:
        """Write a new version of one of our secrets."""
        self.admin.secrets.kv.v2.create_or_update_secret(path=f"{PATH}/{name}", secret={"value": value})

    def delete(self, name: str) -> None:
        self.admin.secrets.kv.v2.delete_latest_version_of_secret(path=f"{PATH}/{name}")

    def limited_token(self, ttl: str = "1h", rules: str | None = None) -> str:
        """A token that may only read our secrets."""
        policy = rules or f'path "secret/data/{PATH}/*" {{ capabilities = ["read"] }}'
        self.admin.sys.create_or_update_policy(name="ours", policy=policy)
        made = self.admin.auth.token.create(policies=["ours"], ttl=ttl, renewable=True)
        return str(made["auth"]["client_token"])

    def environment(self, **more: str) -> dict[str, str]:
        return {"VAULT_URL": self.url, "VAULT_TOKEN": self.token, **more}


@contextlib.contextmanager
def vault_server() -> Iterator[VaultServer]:
    server = VaultServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
