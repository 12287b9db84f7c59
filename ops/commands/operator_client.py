"""The operator plane of a running process, as commands reach it: over HTTP, with its token."""

import argparse
import http.client
import json
import os
from typing import Any
from urllib.parse import urlsplit

from callboard.ops.cli import CommandError
from callboard.ops.config.lookup import read_setting
from callboard.ops.config.settings import LOOPBACK, Config
from callboard.ops.embedded.data_directory import data_folder, read_running
from callboard.ops.terminal import visible

TIMEOUT_S = 15.0
BEYOND = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a listener on all addresses is reached on loopback


class OperatorError(CommandError):
    """The process has refused; `status` is HTTP's."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class OperatorClient:
    """Calls the operator plane at one address."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = url
        self._token = token
        try:
            parts = urlsplit(url)
            scheme, self._host, self._port = parts.scheme, parts.hostname or "", parts.port
        except ValueError:
            scheme = ""
        if scheme not in ("http", "https") or not self._host:
            raise CommandError("--url must be an address such as http://127.0.0.1:9000")
        self._is_secure = scheme == "https"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the data of the response. Raises CommandError if there is no process, and OperatorError."""
        kind = http.client.HTTPSConnection if self._is_secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT_S)
        headers = {"Accept": "application/json"} | ({"Authorization": f"Bearer {self._token}"} if self._token else {})
        payload = None if body is None else json.dumps(body).encode()
        try:
            connection.request(
                method, path, payload, headers | ({"Content-Type": "application/json"} if payload else {})
            )
            response = connection.getresponse()
            status, content = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise CommandError(
                f"no process answers at {self.url} ({visible(why)}): start one, or name its operator plane by "
                "--url, or OPS_HOST and OPS_PORT"
            ) from error
        finally:
            connection.close()
        return _data_of(status, content, self.url)


def _data_of(status: int, content: bytes, url: str) -> Any:
    try:
        answer = json.loads(content)
        if status < http.client.BAD_REQUEST:
            return answer["data"]
        error = answer["error"]
        faults = [f"{each['field']} {each['message']}" for each in error.get("details") or ()]
        said = "; ".join(faults) or str(error["message"])
    except (ValueError, KeyError, TypeError):
        raise CommandError(f"{url} is no operator plane: it answered with status {status}") from None
    if status == http.client.UNAUTHORIZED:
        said = f"{said.rstrip('.')}: OPS_TOKEN must be that of the process"
    raise OperatorError(status, visible(said))


def client_of(options: argparse.Namespace) -> OperatorClient:
    """Return the plane that --url, the environment or the running `callboard up` names. Raises CommandError,
    ConfigError.
    """
    facts = {} if options.data_dir is None and _is_configured() else read_running(data_folder(options.data_dir)) or {}
    token = str(read_setting(Config, "ops_token", os.environ) or facts.get("OPS_TOKEN") or "")
    if options.url:
        return OperatorClient(options.url, token)
    if "OPS_URL" in facts:
        return OperatorClient(str(facts["OPS_URL"]), token)
    host = read_setting(Config, "ops_host", os.environ) or LOOPBACK[0]
    port = read_setting(Config, "ops_port", os.environ) or 9000
    host = BEYOND.get(host, host)
    return OperatorClient(f"http://{f'[{host}]' if ':' in host else host}:{port}", token)


def _is_configured() -> bool:
    return any(read_setting(Config, name, os.environ) is not None for name in ("ops_host", "ops_port"))
