"""The runtime's tests on every Python that is here, with eager tasks too: `make test-runtime`.

Each has an environment of its own in build/, with the runtime's wheel, what that needs, and pytest: packages of the
locks, held against their hashes. `interpreters.py 3.13` only makes that of 3.13 anew, for `make bench-runtime`.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
VERSIONS = ((3, 11), (3, 12), (3, 13))
EAGER_FROM = (3, 12)
PACKAGES = (
    *("msgspec", "setuptools", "uvloop", "pytest", "pytest-timeout", "anyio"),
    *("idna", "iniconfig", "packaging", "pluggy", "pygments", "typing-extensions"),  # of pytest and anyio
)
ENTRY = re.compile(r"^(\S+?)==.*?(?=^\S|\Z)", re.MULTILINE | re.DOTALL)
SLOW = ("tests/runtime/test_overload.py", "tests/runtime/test_alone.py")  # bounds of memory, and a wheel's whole way
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps")


def candidates(version: tuple[int, int]) -> Iterator[Path]:
    """Programs that may be this Python: of the path, of pyenv and of uv."""
    name = f"{version[0]}.{version[1]}"
    yield from (Path(found) for each in (f"python{name}", "python3") if (found := shutil.which(each)))
    for folder in (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"):
        yield from sorted(folder.glob(f"*{name}.*/bin/python3"), reverse=True)


def find(version: tuple[int, int]) -> Path | None:
    """A program that is this Python and can make an environment, if there is one."""
    ask = f"import sys, ensurepip; print(sys.version_info[:2] == {version}, sys.executable)"
    for each in candidates(version):
        said = subprocess.run([each, "-c", ask], capture_output=True, text=True, check=False).stdout  # noqa: S603 - found above
        if said.startswith("True "):
            return Path(said.removeprefix("True ").strip())
    return None


def environment(name: str) -> Path:
    """Where the Python of the environment for this version is, if there is one."""
    return ROOT / "build" / f"runtime-{name}" / "bin" / "python"


def prepare(python: Path, name: str) -> Path:
    """The Python of an environment with the runtime as it is now, and what its tests need."""
    own = environment(name)
    folder = own.parents[1]
    if not own.exists():
        _quietly(python, "-m", "venv", folder)
    locks = "".join((ROOT / "ops/locks" / f"{name}.txt").read_text(encoding="utf-8") for name in ("run", "dev"))
    wanted = folder / "requirements.txt"
    text = "".join(entry[0] for entry in ENTRY.finditer(locks) if entry[1] in PACKAGES)
    if not wanted.exists() or wanted.read_text(encoding="utf-8") != text:
        wanted.write_text(text, encoding="utf-8")
        _quietly(own, *PIP, "--require-hashes", "--requirement", wanted)
    with TemporaryDirectory() as copy:  # a build leaves files beside what it builds
        shutil.copytree(ROOT / "runtime", Path(copy) / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        _quietly(own, *PIP, "--no-build-isolation", "--force-reinstall", Path(copy) / "runtime")
    return own


def _quietly(*command: object) -> None:
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")


def play(python: Path, name: str, *, eager: bool) -> bool:
    """Run the tests, and say how that went; whether it went well."""
    began = time.monotonic()
    options = ("-q", "-p", "no:cacheprovider", "--confcutdir=tests/runtime", *(f"--ignore={each}" for each in SLOW))
    done = subprocess.run(  # noqa: S603 - ours
        [python, "-m", "pytest", *options, "tests/runtime"],
        cwd=ROOT,
        env=os.environ | {"CALLBOARD_EAGER_TASKS": "1" if eager else ""},
        capture_output=True,
        text=True,
        check=False,
    )
    well = done.returncode == 0
    last = done.stdout.strip().rsplit("\n", 1)[-1] if well else f"{done.stdout}{done.stderr}"
    print(f"{name}{', eager tasks' if eager else ''}: {last}, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201 - what it is for
    return well


def main(*only: str) -> int:
    """Run them all, as many at once as there are cores; 1 if a test fails or no Python is here."""
    plays: list[tuple[Path, str, bool]] = []
    for version in VERSIONS:
        name = f"{version[0]}.{version[1]}"
        if only and name not in only:
            continue
        if (python := find(version)) is None:
            print(f"Python {name} is not here: it is left out", flush=True)  # noqa: T201 - what it is for
            continue
        own = prepare(python, name)
        plays += [(own, f"Python {name}", eager) for eager in ((False, True) if version >= EAGER_FROM else (False,))]
    if only:
        return 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as threads:
        well = list(threads.map(lambda each: play(each[0], each[1], eager=each[2]), plays))
    return 0 if well and all(well) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
