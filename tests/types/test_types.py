"""Both type checkers infer the reply of an ask from its request, and refuse what cannot go well."""

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.long
HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RIGHT, WRONG = HERE / "right.py", HERE / "wrong.py"
PAGES = [ROOT / "runtime" / name for name in ("README.md", "DEADLOCKS.md")]
SCRIPTS = Path(sysconfig.get_path("scripts"))


def run(name: str, *arguments: str) -> str:
    """What a type checker says. Skips where it cannot run: pyright needs node, which pyright[nodejs] brings."""
    program = SCRIPTS / name
    if not program.exists():
        pytest.skip(f"{name} is not installed: pip install -e '.[dev]'")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode not in (0, 1):
        pytest.skip(f"{name} does not run here: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def mypy() -> set[tuple[str, int, str]]:
    """The errors, by file and line."""
    said = run("mypy", "--strict", "--no-error-summary", "--hide-error-context", str(RIGHT), str(WRONG))
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: (.*)$", said, re.MULTILINE)
    return {(file, int(line), text) for file, line, text in found}


def pyright() -> set[tuple[str, int, str]]:
    """The errors, by file and line; pyproject.toml says that it is to be strict."""
    said = run("pyright", "--outputjson", "--pythonpath", sys.executable, str(RIGHT), str(WRONG))
    return {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1, each["message"])
        for each in json.loads(said)["generalDiagnostics"]
        if each["severity"] == "error"
    }


@pytest.mark.timeout(240)
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_request_names_its_reply_so_that_an_ask_is_typed_by_mypy_and_pyright_and_they_refuse_what_is_wrong(
    checker: Callable[[], set[tuple[str, int, str]]],
) -> None:
    found = checker()
    assert [error for error in found if error[0] == RIGHT.name] == []
    wrong = {n for n, line in enumerate(WRONG.read_text().splitlines(), 1) if line.endswith("# wrong")}
    refused = {line for file, line, _ in found if file == WRONG.name}
    assert refused == wrong, sorted(found)


def test_each_example_of_the_pages_is_well_typed(tmp_path: Path) -> None:
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
        for n, block in enumerate(blocks):
            (tmp_path / f"{page.stem.lower()}_{n}.py").write_text(block)
    examples = sorted(map(str, tmp_path.iterdir()))
    assert len(examples) == 10
    assert not run("mypy", "--strict", "--no-error-summary", "--hide-error-context", *examples)
