"""Secrets from Vault: a real OpenBao server, its token, its rotations, and its absence."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from kit.quiz import Nothing
from kit.vault import VaultServer, vault_server
from msgspec.structs import replace

from callboard.actors.delivery.department import DeliverySettings
from callboard.actors.department import Branch, Department
from callboard.actors.errors import DegradedError
from callboard.actors.infrastructure.department import InfrastructureSettings
from callboard.actors.infrastructure.refs import Infrastructure
from callboard.actors.settings import SECRET, Line, Settings, in_vault
from callboard.ops.application import Application
from callboard.ops.clients import database_of
from callboard.ops.config import vault as module
from callboard.ops.config.configuration import load, vault_of
from callboard.ops.config.sources import ConfigError, declarations
from callboard.ops.config.vault import Vault, VaultError
from callboard.ops.config.watch import ReadVault, VaultKeeper, VaultState
from callboard.ops.departments import OURS
from callboard.ops.doctor.findings import Surroundings
from callboard.ops.doctor.machine import check_vault

OLD, NEW = "o" * 40, "n" * 40
NEEDED = {
    "DATABASE_URL": "postgresql://callboard@db/board",
    "REDIS_URL": "redis://cache",
    "KAFKA_BROKERS": "broker:9092",
    "SMTP_HOST": "mail",
    "SMTP_USERNAME": "apikey",
}


@pytest.fixture(scope="module")
def vault() -> Iterator[VaultServer]:
    with vault_server() as server:
        yield server


@pytest.fixture
def filled(vault: VaultServer) -> VaultServer:
    vault.admin.secrets.kv.v2.delete_metadata_and_all_versions(path="production/callboard/jwt_secret")
    vault.put("database_password", "pass/word")
    vault.put("jwt_secret", OLD)
    vault.put("api_keys/sendgrid", "mail-key")
    return vault


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every version be older than the time in which processes learn of it."""
    monkeypatch.setattr(module, "SETTLED", 0.0)


def test_secrets_come_from_the_designs_path_and_say_so(filled: VaultServer) -> None:
    configuration = load({**NEEDED, **filled.environment(VAULT_TOKEN=filled.limited_token())})
    assert configuration.settings(InfrastructureSettings).jwt_secret_key == OLD
    assert configuration.settings(DeliverySettings).smtp_password == "mail-key"
    database = database_of(configuration.process, lambda *_: None)
    assert database.url == "postgresql://callboard:pass%2Fword@db/board"
    origins = {each.name: each.origin for each in configuration.described()}
    assert origins["JWT_SECRET_KEY"] == "vault secret/production/callboard/jwt_secret, version 1"
    assert origins["DATABASE_PASSWORD"].startswith("vault secret/production/callboard/database_password, version ")
    assert origins["SMTP_PASSWORD"].startswith("vault secret/production/callboard/api_keys/sendgrid, version ")
    shown = repr(configuration.secrets) + repr(configuration.described())
    assert not any(secret in shown for secret in (OLD, "pass/word", "mail-key", filled.token))


class ShopSettings(Settings, frozen=True, kw_only=True):
    payments: Annotated[Line, SECRET, in_vault("api_keys/stripe")] = ""
    cipher: Annotated[Line, SECRET, in_vault("encryption_key")] = ""
    door: Annotated[Line, SECRET] = ""


SHOP = Department(
    name="shop",
    settings=ShopSettings,
    needs=Nothing,
    offers=Nothing,
    build=lambda _settings, _needs: Branch(refs=Nothing(), children=()),
)


def test_a_department_reads_the_designs_names_that_none_of_ours_uses_and_its_own(filled: VaultServer) -> None:
    for name, value in (("api_keys/stripe", "pay"), ("encryption_key", "hide"), ("shop/door", "open")):
        filled.put(name, value)
    found = load({**NEEDED, **filled.environment()}, (*OURS, SHOP)).settings(ShopSettings)
    assert (found.payments, found.cipher, found.door) == ("pay", "hide", "open")
    ours = {name for each in OURS for declared in declarations(each.settings) for name in declared.in_vault("")}
    assert not ours & {"api_keys/stripe", "encryption_key"}, "ops/SETTINGS.md says that they are not used"


def test_the_environment_goes_before_vault_which_is_then_not_asked(filled: VaultServer) -> None:
    configuration = load({**NEEDED, **filled.environment(), "JWT_SECRET_KEY": NEW, "SMTP_PASSWORD": "own"})
    assert configuration.settings(InfrastructureSettings).jwt_secret_key == NEW
    assert configuration.settings(DeliverySettings).smtp_password == "own"
    assert configuration.secrets.keys().isdisjoint({"JWT_SECRET_KEY", "SMTP_PASSWORD"})


def test_another_installation_has_another_path(filled: VaultServer) -> None:
    with pytest.raises(ConfigError, match="JWT_SECRET_KEY is missing"):
        load({**NEEDED, **filled.environment(), "ENVIRONMENT": "staging", "SMTP_PASSWORD": "own"})
    found = load({**NEEDED, **filled.environment(VAULT_PATH="secret/production/callboard"), "ENVIRONMENT": "staging"})
    assert found.settings(InfrastructureSettings).jwt_secret_key == OLD


def test_a_secret_that_was_deleted_is_missing(filled: VaultServer) -> None:
    filled.delete("jwt_secret")
    with pytest.raises(ConfigError, match="JWT_SECRET_KEY is missing"):
        load({**NEEDED, **filled.environment()})


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        ({"VAULT_TOKEN": "wrong-token"}, "it refuses VAULT_TOKEN"),
        ({"VAULT_TOKEN": ""}, "VAULT_TOKEN is missing: VAULT_URL needs it"),
    ],
)
def test_a_token_that_is_refused_ends_a_start_with_one_line(
    filled: VaultServer, more: dict[str, str], fault: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({**NEEDED, **filled.environment(), **more, "JWT_SECRET_KEY": OLD, "SMTP_PASSWORD": "own"})
    (line,) = refused.value.faults
    assert fault in line
    assert "wrong-token" not in line


def test_a_vault_that_is_away_at_the_start_is_tried_a_few_times_and_named(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    with pytest.raises(ConfigError) as refused:
        load(
            {**NEEDED, **vault.environment(VAULT_URL="http://127.0.0.1:1"), "JWT_SECRET_KEY": OLD, "SMTP_PASSWORD": "x"}
        )
    assert refused.value.faults == ["VAULT_URL (http://127.0.0.1:1): it does not answer (ConnectionError), 5 times"]
    assert pauses == [0.5, 1.0, 2.0, 4.0]


def test_a_token_is_renewed_when_half_of_its_life_is_over(filled: VaultServer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = filled.limited_token("60s")
    client = Vault(replace_token(filled, token), {})
    monkeypatch.setattr(module, "RENEW_AT", 0.01)
    client.read()
    before = filled.admin.auth.token.lookup(token)["data"]
    assert "last_renewal_time" not in before or not before["last_renewal_time"]
    monkeypatch.setattr(module, "RENEW_AT", 1.1)
    client.read()
    assert filled.admin.auth.token.lookup(token)["data"]["last_renewal_time"]


def replace_token(server: VaultServer, token: str) -> Any:
    found = vault_of(load({**NEEDED, **server.environment(), "JWT_SECRET_KEY": OLD, "SMTP_PASSWORD": "x"}))
    assert found is not None
    return replace(found.settings, token=token)


def test_a_new_signing_key_verifies_before_it_signs_and_the_old_one_after(
    filled: VaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.put("jwt_secret", NEW)
    young = load({**NEEDED, **filled.environment()}).settings(InfrastructureSettings)
    assert young.secrets == (OLD, NEW)
    settled(monkeypatch)
    old = load({**NEEDED, **filled.environment()}).settings(InfrastructureSettings)
    assert old.secrets == (NEW, OLD)


async def test_a_rotation_is_adopted_by_the_running_parts(
    filled: VaultServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    configuration = load({**NEEDED, **filled.environment()})
    parts = Application(configuration, tmp_path)
    signer = parts.refs(Infrastructure).signer
    unsubscribe = signer.unsubscribe_proof(b"x")
    client = vault_of(configuration)
    assert client is not None
    keeper = VaultKeeper(parts.reloader, client, VaultState())
    for name, value in (("jwt_secret", NEW), ("database_password", "next"), ("api_keys/sendgrid", "next-key")):
        filled.put(name, value)
    await keeper.read(ReadVault())
    assert signer.unsubscribe_proof(b"x") != unsubscribe
    assert signer.is_unsubscribe_proof(b"x", unsubscribe)  # the version before still verifies
    assert parts.database.url == "postgresql://callboard:next@db/board"
    in_force = parts.reloader.configuration
    assert in_force.settings(DeliverySettings).smtp_password == "next-key"
    assert in_force.settings(InfrastructureSettings).jwt_secret_key == NEW


async def test_a_vault_that_is_away_later_leaves_the_last_values_and_is_said_once(
    filled: VaultServer, tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Application(load({**NEEDED, **filled.environment()}), tmp_path)
    state, away = VaultState(), replace(replace_token(filled, filled.token), url="http://127.0.0.1:1")
    keeper = VaultKeeper(parts.reloader, Vault(away, {}), state)
    for _ in range(3):
        await keeper.read(ReadVault())
    assert [record.message for record in caplog.records] == [
        "VAULT_URL (http://127.0.0.1:1): it does not answer (ConnectionError); the last values stay in force"
    ]
    assert {each.name: each.read() for each in state.figures} == {
        "callboard_vault_reads": {("ok",): 0.0, ("failed",): 3.0},
        "callboard_vault_available": {(): 0.0},
    }
    with pytest.raises(DegradedError):
        await state.check()
    assert parts.reloader.configuration.settings(InfrastructureSettings).jwt_secret_key == OLD


def test_no_error_and_no_repr_has_a_secret(filled: VaultServer) -> None:
    filled.admin.secrets.kv.v2.create_or_update_secret(
        path="production/callboard/redis_password", secret={"one": "hidden-1", "two": "hidden-2"}
    )
    settings = replace_token(filled, filled.token)
    client = Vault(settings, {"X": ("redis_password",)})
    with pytest.raises(VaultError) as refused:
        client.read()
    assert str(refused.value) == "secret/production/callboard/redis_password must have its text in the field value"
    assert filled.token not in repr(settings)


async def test_the_doctor_asks_vault(filled: VaultServer) -> None:
    async def found(**more: str) -> list[str]:
        around = Surroundings({**filled.environment(), **more})
        return [each.mend async for each in check_vault(around)]

    assert await found() == [""]
    assert await found(VAULT_TOKEN="wrong-token") == ["give VAULT_TOKEN a valid token"]
    assert await found(VAULT_URL="http://127.0.0.1:1") == ["start or unseal Vault, or correct VAULT_URL"]
    assert await found(VAULT_TOKEN="") == ["correct it, or remove VAULT_URL"]
