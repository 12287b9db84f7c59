"""Settings that change by SIGHUP are security events; those of a file that is not taken are not."""

from pathlib import Path

from kit.audited import entries
from kit.domain import Domain

from callboard.ops.application import dry_run
from callboard.ops.config.reload import Reloader


async def test_a_reload_leaves_an_entry_of_what_it_has_changed(domain: Domain, tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text("")
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    reloader = Reloader(parts, parts.configuration, domain.database)
    file.write_text("[limits.login]\nlimit = 7\n")
    await reloader.reload_or_log("SIGHUP")
    await reloader.reload_or_log("SIGHUP")  # nothing has changed
    file.write_text("[limits.login]\nlimit = 0\n")
    await reloader.reload_or_log("SIGHUP")
    (entry,) = await entries(domain)
    assert (entry.action, entry.actor) == ("settings.changed", "operator")
    assert entry.detail == {"name": "limits.login.limit", "old": "10", "new": "7"}
    assert entry.user_agent == "SIGHUP"


async def test_settings_are_in_force_though_their_entry_cannot_be_written(domain: Domain, tmp_path: Path) -> None:
    file = tmp_path / "tuning.toml"
    file.write_text("")
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    reloader = Reloader(parts, parts.configuration, domain.database)
    file.write_text("[limits.login]\nlimit = 7\n")
    domain.database.unavailable.set()
    try:
        await reloader.reload_or_log("SIGHUP")
    finally:
        domain.database.unavailable.clear()
    assert parts.policies["login"].limit == 7


async def test_a_change_of_a_secret_is_told_without_its_values(domain: Domain, tmp_path: Path) -> None:
    file = tmp_path / "callboard.toml"
    file.write_text('smtp_username = "me"\nsmtp_password = "hidden-1"\nlog_level = "INFO"\nhttp_port = 8000\n')
    parts = dry_run({"CALLBOARD_CONFIG": str(file)})
    reloader = Reloader(parts, parts.configuration, domain.database)
    file.write_text('smtp_username = "me"\nsmtp_password = "hidden-2"\nlog_level = "WARNING"\nhttp_port = 8001\n')
    reloaded = await reloader.reload()
    assert reloaded.restart == ["HTTP_PORT"]
    assert reloader.configuration.process.http_port == 8000
    found = [each.detail for each in await entries(domain)]
    assert sorted(found, key=lambda each: each["name"]) == [
        {"name": "LOG_LEVEL", "old": "INFO", "new": "WARNING"},
        {"name": "SMTP_PASSWORD", "old": "***", "new": "***"},
    ]
