"""The files of ops/deploy: what they run, with which settings, and whether the product knows each of them."""

import re
import shlex
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from callboard.http.server.health import liveness_routes
from callboard.ops.cli import parser
from callboard.ops.config.configuration import load
from callboard.ops.config.names import warnings
from callboard.ops.config.settings import Config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "ops" / "deploy"
PATHS = {route.path for route in liveness_routes({})}
SECRETS = {
    "AWS_ACCESS_KEY_ID": "id",
    "AWS_SECRET_ACCESS_KEY": "key",
    "DATABASE_URL": "postgresql://callboard:secret@db:5432/callboard",
    "JWT_SECRET_KEY": "x" * 64,
    "OPS_TOKEN": "x" * 32,
    "REDIS_URL": "redis://redis:6379/0",
    "SMTP_PASSWORD": "secret",
}
OTHERS = {"PATH", "PYTHONDONTWRITEBYTECODE"}  # variables of the image that are no settings of ours
KAFKA = {"KAFKA_BROKERS": "kafka:9092", "SMTP_HOST": "mail"}
UPLOADS_FOLDER = "/var/lib/callboard/uploads"
MARGIN_S = 5.0  # between our own limit of a stop and the end by force


def settings(environment: Mapping[str, str]) -> Config:
    """Load an environment as a start does. Raises ConfigError for a bad one; nothing in it may be unknown."""
    assert warnings(environment) == []
    known = set(load(environment).redacted())
    assert {name.removesuffix("_FILE") for name in environment} - known == set()
    return load(environment).process


def runs(words: list[str]) -> str:
    """The command that the command line makes of these words; it exits for those that it does not know."""
    return str(parser().parse_args(words).command)


def stop_s(config: Config) -> float:
    """The longest that a stop of ours takes."""
    return config.shutdown_delay_s + config.shutdown_grace_s + config.jobs_grace_s + 2.0


@cache
def stages() -> tuple[tuple[tuple[str, str], ...], ...]:
    """The instructions of the Dockerfile by stage, each with its words."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    found: list[list[tuple[str, str]]] = []
    for name, _, rest in (line.partition(" ") for line in lines):
        if name == "FROM":
            found.append([])
        found[-1].append((name, " ".join(rest.split())))
    return tuple(tuple(stage) for stage in found)


def last(name: str) -> str:
    return next(words for instruction, words in reversed(stages()[-1]) if instruction == name)


def image() -> dict[str, str]:
    """The variables of the image."""
    return dict(word.split("=", 1) for word in shlex.split(last("ENV")))


def image_settings() -> dict[str, str]:
    return {name: value for name, value in image().items() if name not in OTHERS}
