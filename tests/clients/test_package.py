"""What is installed: the binary without the demo."""

import subprocess

import pytest

import conftest
import harness


def osprey(*arguments):
    conftest.need_osprey()
    return subprocess.run([harness.osprey_binary(), *arguments], capture_output=True, text=True)


@pytest.mark.skipif(not harness.TINY_IO, reason="tests/run tiny builds without the demo")
def test_a_build_without_the_demo_says_so():
    for arguments in (["demo"], ["demo", "--once", "--listen", "127.0.0.1:0"]):
        done = osprey(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert len(done.stderr.splitlines()) == 1 and "this build has no demo" in done.stderr
    assert "demo" not in osprey("--help").stdout
    mistaken = osprey("serve")
    assert mistaken.returncode == 2 and "demo" not in mistaken.stderr
