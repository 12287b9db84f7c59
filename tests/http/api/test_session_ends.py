"""However sessions end, the next request with their access tokens is refused by every process: with a Redis that works,
one that has been killed, one that stands still, and one that takes no writes.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import redis
from kit.commands import run_command
from kit.domain import PASSWORD
from kit.people import Person, UserFactory
from kit.running import CallboardProcess, Up, data_folder, until
from kit.twins import ProcessGroup, twins

from callboard.actors.infrastructure.token_signer import fingerprint, refresh_token
from callboard.ops.embedded.data_directory import free_ports, open_data_directory
from callboard.ops.embedded.valkey import Valkey

NEW = "Paper-Boats-77"
REDIS = ("works", "takes no writes", "stands still", "has been killed")


class Scene:
    """Two processes, and people whose sessions both remember."""

    def __init__(self, pair: ProcessGroup, client: Any) -> None:
        self.pair = pair
        self.client = client
        self.people = UserFactory(pair.environment)
        self.admin = self.people.person("admin")
        for site in pair.sites:
            until("a process that trusts Redis", lambda each=site: self.remembers(each))
        self.waiting = [self.known_to_all() for _ in WAYS]

    def remembers(self, site: CallboardProcess) -> bool:
        """Whether a process asks Redis for the admin's generation, which is not there: then it makes one."""
        for key in self.generation_of(self.admin):
            self.client.delete(key)
        assert site.call("GET", "/users/me", token=self.admin.token).status == 200
        return self.generation_of(self.admin) != []

    def generation_of(self, person: Person) -> list[bytes]:
        """The key of a person's generation; without one, nobody remembers that person."""
        found: list[bytes] = self.client.keys(f"*{person.user_id}:epoch")
        return found

    def known_to_all(self) -> Person:
        person = self.people.person("member")
        for site in self.pair.sites * 2:
            assert site.call("GET", "/users/me", token=person.token).status == 200
        assert self.generation_of(person) != []
        return person

    def logged_in(self, person: Person) -> str:
        """Another session's access token."""
        body = {"email": person.email, "password": PASSWORD}
        return str(self.pair.sites[1].call("POST", "/auth/login", body=body).data["access_token"])

    def reset_token(self, person: Person) -> str:
        """As a mail would have it."""
        token = refresh_token()
        self.pair.sql(
            "insert into mail_tokens (token_id, user_id, purpose, token_hash, expires_at) "
            "values ($1, $2, 'reset_password', $3, now() + interval '1 hour')",
            uuid4(),
            person.user_id,
            fingerprint(token),
        )
        return token


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with data_folder() as data, open_data_directory(data) as place, asyncio.Runner() as runner:
        server = Valkey(place, free_ports(1)[0])
        runner.run(server.start())
        pid = server.pid
        assert pid is not None
        try:
            yield server
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            runner.run(server.exited())


@pytest.fixture(scope="module")
def pair(up: Up, valkey: Valkey) -> Iterator[ProcessGroup]:
    with twins(up, REDIS_URL=valkey.url) as pair:
        yield pair


@pytest.fixture(scope="module", params=REDIS)
def scene(pair: ProcessGroup, valkey: Valkey, request: pytest.FixtureRequest) -> Iterator[Scene]:
    """On a Redis that comes into its state when both processes remember everybody, and leaves it afterwards."""
    pid = valkey.pid
    assert pid is not None
    with redis.Redis.from_url(valkey.url) as client:
        scene = Scene(pair, client)
        match request.param:
            case "takes no writes":
                client.config_set("min-replicas-to-write", "1")
                yield scene
                client.config_set("min-replicas-to-write", "0")
            case "stands still":
                os.kill(pid, signal.SIGSTOP)
                yield scene
                os.kill(pid, signal.SIGCONT)
            case "has been killed":  # the last: nobody starts it again
                os.kill(pid, signal.SIGKILL)
                yield scene
            case _:
                yield scene


def log_out(_scene: Scene, site: CallboardProcess, person: Person) -> int:
    return site.call("POST", "/auth/logout", token=person.token).status


def log_out_everywhere(scene: Scene, site: CallboardProcess, person: Person) -> int:
    return site.call("POST", "/auth/logout-all", token=scene.logged_in(person)).status


def end_it_by_its_id(scene: Scene, site: CallboardProcess, person: Person) -> int:
    return site.call("DELETE", f"/auth/sessions/{person.session_id}", token=scene.logged_in(person)).status


def deactivate(scene: Scene, site: CallboardProcess, person: Person) -> int:
    body = {"is_active": False}
    return site.call("PATCH", f"/users/{person.user_id}", token=scene.admin.token, body=body).status


def disable(scene: Scene, _site: CallboardProcess, person: Person) -> int:
    return run_command("users", "disable", person.email, environment=scene.pair.environment).status


def delete_oneself(scene: Scene, site: CallboardProcess, person: Person) -> int:
    return site.call("DELETE", "/users/me", token=scene.logged_in(person)).status


def be_deleted(scene: Scene, site: CallboardProcess, person: Person) -> int:
    return site.call("DELETE", f"/users/{person.user_id}", token=scene.admin.token).status


def change_the_password(scene: Scene, site: CallboardProcess, person: Person) -> int:
    body = {"current_password": PASSWORD, "new_password": NEW}
    token = scene.logged_in(person)
    status = site.call("POST", "/auth/password/change", token=token, body=body).status
    assert [each.call("GET", "/users/me", token=token).status for each in scene.pair.sites] == [200, 200]
    return status


def reset_the_password(scene: Scene, site: CallboardProcess, person: Person) -> int:
    body = {"token": scene.reset_token(person), "new_password": NEW}
    return site.call("POST", "/auth/password/reset", body=body).status


WAYS: tuple[Callable[[Scene, CallboardProcess, Person], int], ...] = (
    log_out,
    log_out_everywhere,
    end_it_by_its_id,
    deactivate,
    disable,
    delete_oneself,
    be_deleted,
    change_the_password,
    reset_the_password,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_ended_session_is_refused_by_every_process_from_the_next_request_on(scene: Scene, way: Any) -> None:
    person = scene.waiting.pop()
    site = scene.pair.sites[len(scene.waiting) % 2]
    assert way(scene, site, person) in (0, 200, 204)
    answers = [each.call("GET", "/users/me", token=person.token) for each in scene.pair.sites]
    assert [(answer.status, answer.code) for answer in answers] == [(401, "AUTH_SESSION_ENDED_005")] * 2
