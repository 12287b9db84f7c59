"""A key that is replaced one process after the other: while old and new run side by side neither logs anybody out.

Every stage runs at once on the same servers: `behind` still signs with the old key and knows the new one, `ahead` signs
with the new one and knows the old one, and `after` has never heard of the old one.
"""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from kit.running import PASSWORD, Answer, CallboardProcess, Up, request, until
from kit.twins import ProcessGroup, twins

OLD, NEW = secrets.token_urlsafe(48), secrets.token_urlsafe(48)
OLD_KEY, NEW_KEY = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def private(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Stages(NamedTuple):
    """A process of each."""

    behind: CallboardProcess
    ahead: CallboardProcess
    after: CallboardProcess


@pytest.fixture(scope="module")
def made(up: Up) -> Iterator[ProcessGroup]:
    with twins(up, 1, JWT_SECRET_KEY=OLD, JWT_PREVIOUS_KEYS=NEW) as made:
        yield made


@pytest.fixture(scope="module")
def hashed(made: ProcessGroup) -> Stages:
    """From one secret to another."""
    ahead = made.start(JWT_SECRET_KEY=NEW, JWT_PREVIOUS_KEYS=OLD)
    return Stages(made.sites[0], ahead, made.start(JWT_SECRET_KEY=NEW, JWT_PREVIOUS_KEYS=""))


@pytest.fixture(scope="module")
def signed(made: ProcessGroup) -> Stages:
    """From one Ed25519 key to another."""
    return Stages(
        made.start(JWT_PRIVATE_KEY=private(OLD_KEY), JWT_PREVIOUS_PUBLIC_KEYS=public(NEW_KEY)),
        made.start(JWT_PRIVATE_KEY=private(NEW_KEY), JWT_PREVIOUS_PUBLIC_KEYS=public(OLD_KEY)),
        made.start(JWT_PRIVATE_KEY=private(NEW_KEY)),
    )


@pytest.fixture
def email(made: ProcessGroup) -> str:
    """Of a verified account."""
    account = made.sites[0].register()
    made.sql("update users set is_verified = true where email = $1", account["email"])
    return account["email"]


def log_in(site: CallboardProcess, email: str) -> Any:
    """Tokens. Of many processes one may have to wait for a connection: 503, as for any client."""

    def answered() -> Any:
        answer = site.call("POST", "/auth/login", body={"email": email, "password": PASSWORD})
        assert answer.status in (200, 503), answer
        return answer.data if answer.status == 200 else None

    return until("a login", answered)


def statuses(sites: tuple[CallboardProcess, ...], tokens: Any) -> list[int]:
    return [site.call("GET", "/users/me", token=tokens["access_token"]).status for site in sites]


def refresh(site: CallboardProcess, tokens: Any) -> Answer:
    return site.call("POST", "/auth/refresh", body={"refresh_token": tokens["refresh_token"]})


def kid(tokens: Any) -> str:
    return str(jwt.get_unverified_header(tokens["access_token"])["kid"])


@pytest.mark.parametrize("kind", ["hashed", "signed"])
def test_old_and_new_processes_take_each_others_tokens(kind: str, email: str, request: pytest.FixtureRequest) -> None:
    stages: Stages = request.getfixturevalue(kind)
    by_old, by_new = log_in(stages.behind, email), log_in(stages.ahead, email)
    assert kid(by_old) != kid(by_new) == kid(log_in(stages.after, email))
    assert statuses(stages, by_old) == [200, 200, 401]  # the last one: the old key is not known by everybody anyway
    assert statuses(stages, by_new) == [200, 200, 200]
    for tokens, site, expected in ((by_old, stages.ahead, kid(by_new)), (by_new, stages.behind, kid(by_old))):
        pair = refresh(site, tokens).data
        assert kid(pair) == expected
        assert statuses(stages[:2], pair) == [200, 200]
        assert refresh(site, pair).status == 200


@pytest.mark.parametrize("kind", ["hashed", "signed"])
def test_a_logout_by_the_old_process_is_one_for_the_new_and_the_other_way_round(
    kind: str, email: str, request: pytest.FixtureRequest
) -> None:
    stages: Stages = request.getfixturevalue(kind)
    for here, there in ((stages.behind, stages.ahead), (stages.ahead, stages.behind)):
        mine, other = log_in(here, email), log_in(there, email)
        assert statuses(stages[:2] * 2, mine) == [200] * 4
        assert there.call("POST", "/auth/logout", token=mine["access_token"]).status == 204
        assert statuses(stages[:2], mine) == [401, 401]
        assert statuses(stages[:2], other) == [200, 200]


def test_of_sixteen_refreshes_at_once_in_the_old_and_the_new_process_all_get_the_one_child(
    hashed: Stages, email: str
) -> None:
    """Each would derive another child, for each has another secret."""
    for _ in range(4):
        login = log_in(hashed.behind, email)
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda site, login=login: refresh(site, login), hashed[:2] * 8))
        assert {answer.status for answer in answers} == {200}
        assert len({answer.data["refresh_token"] for answer in answers}) == 1


def test_a_key_of_idempotency_is_known_again_by_the_other_process(hashed: Stages, email: str) -> None:
    """What is kept of the body is made with a secret too."""
    token = log_in(hashed.behind, email)["access_token"]
    for here, there in ((hashed.behind, hashed.ahead), (hashed.ahead, hashed.behind)):
        sent = {"Idempotency-Key": secrets.token_hex(8)}
        answers = [
            request("POST", f"{site.api}/content", token=token, body={"title": title, "body": ""}, headers=sent)
            for site, title in ((here, "a"), (there, "a"), (there, "b"))
        ]
        assert [answer.status for answer in answers] == [201, 201, 422]
        assert answers[0].data["content_id"] == answers[1].data["content_id"]


def test_both_serve_both_keys_and_they_check_the_tokens_of_both(signed: Stages, hashed: Stages, email: str) -> None:
    shown = [request("GET", site.api.removesuffix("/api/v1") + "/.well-known/jwks.json").body for site in signed]
    assert [len(each["keys"]) for each in shown] == [2, 2, 1]
    by_kid = [{key["kid"]: key for key in each["keys"]} for each in shown]
    assert by_kid[0] == by_kid[1]
    for site in signed[:2]:
        token = log_in(site, email)["access_token"]
        for keys in by_kid[:2]:
            key = jwt.PyJWK(keys[jwt.get_unverified_header(token)["kid"]])
            assert jwt.decode(token, key, algorithms=["EdDSA"], issuer="callboard")["email"] == email
    assert request("GET", hashed.ahead.api.removesuffix("/api/v1") + "/.well-known/jwks.json").body == {"keys": []}


def test_going_from_a_secret_to_a_key_and_back_logs_nobody_out(made: ProcessGroup, signed: Stages, email: str) -> None:
    """What signs with a secret has to know the public key before anything signs with it."""
    knowing = made.start(JWT_PREVIOUS_PUBLIC_KEYS=public(NEW_KEY))
    for here, there in ((knowing, signed.ahead), (signed.ahead, knowing)):
        tokens = log_in(here, email)
        assert statuses((here, there), tokens) == [200, 200]
        assert statuses((here, there), refresh(there, tokens).data) == [200, 200]
