"""The runtime is a distribution of its own: its wheel, in an environment that has msgspec and nothing else."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


def run(*command: object, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(  # noqa: S603 - our own programs
        [str(each) for each in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    built = run(sys.executable, "-c", BUILD, folder, cwd=folder / "runtime").splitlines()[-1]
    return folder / built


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that has the wheel and msgspec."""
    folder = tmp_path_factory.mktemp("bare")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    for name in ("msgspec", f"msgspec-{importlib.metadata.version('msgspec')}.dist-info"):
        shutil.copytree(Path(sysconfig.get_path("purelib")) / name, packages / name)
    return python


def test_it_needs_msgspec_alone_and_is_the_same_release_as_the_product() -> None:
    alone = tomllib.loads((ROOT / "runtime/pyproject.toml").read_text())
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert [re.split(r"[<>=]", each)[0] for each in alone["project"]["dependencies"]] == ["msgspec"]
    for field in ("version", "requires-python", "license"):
        assert alone["project"][field] == whole["project"][field]
    ours = [name for name in whole["tool"]["setuptools"]["packages"] if name.startswith("callboard.runtime")]
    assert alone["tool"]["setuptools"]["packages"] == ours


def test_its_wheel_has_every_module_and_page_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("callboard/runtime/") for name in archive.namelist() if "dist-info" not in name}
    files = {path.relative_to(ROOT / "runtime") for path in (ROOT / "runtime").rglob("*")}
    kept = {str(path) for path in files if path.suffix in (".py", ".md") or path.name == "py.typed"}
    assert inside == kept


def test_each_example_of_its_readme_runs_in_an_environment_that_has_msgspec_and_nothing_else(bare: Path) -> None:
    page = (ROOT / "runtime/README.md").read_text()
    found = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    blocks = [each for each in found if "pytest" not in each]
    assert len(blocks) > 5
    quiet = "import logging; logging.getLogger('callboard.runtime').addHandler(logging.NullHandler())\n"
    for block in blocks:
        run(bare, "-W", "error", "-c", quiet + block, cwd=bare.parent)


def test_every_module_of_it_is_imported_without_anything_else(bare: Path) -> None:
    walk = (
        "import importlib, pkgutil, sys, callboard.runtime as runtime\n"
        "for each in pkgutil.walk_packages(runtime.__path__, 'callboard.runtime.'):\n"
        "    importlib.import_module(each.name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('anyio', 'uvloop', 'aiohttp', 'faust')])"
    )
    assert run(bare, "-c", walk, cwd=bare.parent).strip() == "[]"
