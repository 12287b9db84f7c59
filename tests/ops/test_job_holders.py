"""Whether a holder of jobs is proved dead: by the kernel, for this very process, and never by a name alone."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from callboard.ops.job_holders import holder_name, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows which kernel it is")


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE) as living:
        yield living
        living.kill()


def test_a_process_that_lives_is_not_gone_and_one_that_was_killed_is(process: "subprocess.Popen[bytes]") -> None:
    name = holder_name(process.pid)
    assert not is_gone(holder_name())
    assert not is_gone(name)
    process.kill()
    process.wait()
    assert is_gone(name)


def test_one_that_was_killed_and_that_nobody_has_waited_for_is_gone(process: "subprocess.Popen[bytes]") -> None:
    name = holder_name(process.pid)
    process.kill()
    while not is_gone(name):  # the kernel ends it in its own time, and the test's limit bounds that
        pass
    assert process.returncode is None


def test_a_process_of_the_same_id_that_was_born_at_another_time_is_another(
    process: "subprocess.Popen[bytes]",
) -> None:
    place, kernel, born = holder_name(process.pid).split(" ")
    assert is_gone(f"{place} {kernel} {int(born) - 1}")


@pytest.mark.parametrize("part", ["boot", "namespace"])
def test_of_another_kernel_or_namespace_nothing_is_known(process: "subprocess.Popen[bytes]", part: str) -> None:
    place, kernel, born = holder_name(process.pid).split(" ")
    boot, _, namespace = kernel.partition("/")
    other = f"{boot[:-1]}_/{namespace}" if part == "boot" else f"{boot}/{namespace}1"
    process.kill()
    process.wait()
    assert is_gone(f"{place} {kernel} {born}")
    assert not is_gone(f"{place} {other} {born}")


@pytest.mark.parametrize("name", ["", "host:17", "host", "host:17  5", "host:-1 {k} 5", "host:x {k} 5", "host:0 {k} 5"])
def test_a_name_without_its_proof_says_nothing(name: str) -> None:
    kernel = holder_name().split(" ")[1]
    assert not is_gone(name.format(k=kernel))


def test_where_the_kernel_does_not_say_who_it_is_nobody_is_gone(process: "subprocess.Popen[bytes]") -> None:
    name = holder_name(process.pid, kernel=lambda: "")
    process.kill()
    process.wait()
    assert not is_gone(name, kernel=lambda: "")
