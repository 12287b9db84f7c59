"""`callboard tree`, `pools`, `flags` and `completion`: they ask the running process, by its operator plane."""

import argparse
import json
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest
from kit.running import Up

from callboard.ops.cli import main, parser


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.fixture
def at(up: Up) -> tuple[str, ...]:
    return ("--data-dir", str(up.data))


def test_the_tree_is_shown_whole_or_below_a_path(at: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tree", *at) == 0
    told = capsys.readouterr().out
    assert "editorial" in told
    assert "content_queries" in told
    assert run("tree", "editorial/content_queries", "--json", *at) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "pool"
    assert run("tree", "editorial/kitchen", *at) == 2
    assert capsys.readouterr().err == "callboard: the tree has no editorial/kitchen\n"


def test_a_pool_is_listed_and_resized(at: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    def size() -> int:
        assert run("pools", "list", "--json", *at) == 0
        pools = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return int(next(each["size"] for each in pools if each["name"] == "content_queries"))

    before = size()
    assert run("pools", "resize", "content_queries", str(before + 2), *at) == 0
    assert "content_queries" in capsys.readouterr().out
    assert size() == before + 2
    assert run("pools", "resize", "content_queries", str(before), "--json", *at) == 0
    assert json.loads(capsys.readouterr().out)["size"] == before
    assert run("pools", "resize", "kitchen", "3", *at) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_flag_is_set_for_all_and_for_one_and_the_change_is_an_operators(
    at: tuple[str, ...], up: Up, capsys: pytest.CaptureFixture[str]
) -> None:
    person = up.register()

    def flag(*options: str) -> dict[str, object]:
        assert run("flags", "list", "--json", *options, *at) == 0
        flags = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return dict(next(each for each in flags if each["name"] == "enable_new_ui"))

    assert flag()["is_on"] is False
    for account in (person["email"], person["user_id"]):
        assert run("flags", "set", "enable_new_ui", "on", "--user", account, "--json", *at) == 0
        assert json.loads(capsys.readouterr().out)["override"] is True
        assert flag("--user", account)["override"] is True
        assert run("flags", "set", "enable_new_ui", "default", "--user", account, *at) == 0
        capsys.readouterr()
        assert flag("--user", account).get("override") is None
    assert run("flags", "set", "enable_new_ui", "on", *at) == 0
    capsys.readouterr()
    assert flag()["is_on"] is True
    assert run("flags", "set", "enable_new_ui", "off", *at) == 0
    capsys.readouterr()
    assert run("audit", "--action", "flag.changed", "--limit", "6", "--json", *at) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {each["actor"] for each in entries} == {"operator"}
    assert {each["ip"] for each in entries} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("flags", "set", "kitchen", "on"), "flag"),
        (("flags", "set", "enable_new_ui", "on", "--user", f"{uuid4().hex}@example.org"), "no such user"),
        (("flags", "set", "enable_new_ui", "default"), "default needs --user"),
    ],
)
def test_what_is_not_there_is_one_line(
    at: tuple[str, ...], arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments, *at) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("command", [("tree",), ("pools", "list"), ("flags", "list")])
def test_without_a_process_one_line_names_the_address_that_was_asked(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_HOST", "127.0.0.1")
    monkeypatch.setenv("OPS_PORT", "1")
    assert run(*command) == 2
    told = capsys.readouterr().err
    assert told.startswith("callboard: no process answers at http://127.0.0.1:1 (")
    assert told.count("\n") == 1


def test_another_program_at_that_address_is_said(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tree", "--url", up.api.removesuffix("/api/v1")) == 2
    assert capsys.readouterr().err.count("\n") == 1


def commands(found: argparse.ArgumentParser, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    below = [each for each in found._actions if isinstance(each, argparse._SubParsersAction)]
    if not below:
        yield path
    for action in below:
        for name, each in action.choices.items():
            yield from commands(each, (*path, name))


def test_every_operators_command_has_json() -> None:
    without = {"up", "serve", "openapi", "asyncapi", "demo", "completion"}  # they run, or print a document
    for path in commands(parser()):
        if path[0] in without:
            continue
        found = parser()
        for name in path:
            (action,) = (each for each in found._actions if isinstance(each, argparse._SubParsersAction))
            found = action.choices[name]
        assert "--json" in found._option_string_actions, path


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_the_completion_of_each_shell_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    script = capsys.readouterr().out
    for path in commands(parser()):
        assert path[-1] in script, path


def test_bash_completes_the_actions_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", "bash") == 0
    script = capsys.readouterr().out
    asked = 'COMP_WORDS=(callboard pools r); COMP_CWORD=2; _shtab_callboard; echo "${COMPREPLY[@]}"'
    told = subprocess.run(["bash", "-c", script + asked], capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert told.stdout.split() == ["resize"]


@pytest.mark.parametrize(
    "url", ["x", "ftp://127.0.0.1:9000", "http://[::1", "http://[x]:1", "http://a:b", "http://", "\n"]
)
def test_an_address_that_is_none_is_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tree", "--url", url) == 2
    assert capsys.readouterr().err == "callboard: --url must be an address such as http://127.0.0.1:9000\n"


@pytest.mark.parametrize("since", ["nope", "9999", "", "0001:0002", "-1", "head"])
def test_a_revision_that_is_none_is_one_line(since: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("migrate", "up", "--sql", f"--since={since}") == 2
    assert (
        capsys.readouterr().err == f"callboard: there is no revision {since!r}: callboard migrate status lists them\n"
    )
