"""`callboard migrate new`: the file of a new migration."""

import json
import shutil
from pathlib import Path

import pytest

from callboard.ops import schema
from callboard.ops.migrations import runner


@pytest.mark.parametrize("as_json", [False, True])
def test_a_new_migration_follows_the_last_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    settings = runner.config(schema.History("copy", shutil.copytree(schema.VERSIONS, tmp_path / "versions")))
    monkeypatch.setattr(runner, "config", lambda: settings)
    assert runner.new("Keep tags of content.", as_json=as_json) == 0
    revision = f"{int(schema.head()) + 1:04}"
    (made,) = (tmp_path / "versions").glob(f"{revision}_keep_tags_of_content*.py")
    assert f"down_revision = {schema.head()!r}" in made.read_text()
    printed = capsys.readouterr().out
    if as_json:
        assert json.loads(printed) == {"revision": revision, "path": str(made)}
    else:
        assert printed.startswith(f"{made}: write it")
