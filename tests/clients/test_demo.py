"""`osprey demo`: the story for a newcomer, with nothing but the binary."""

import subprocess

import conftest
import harness


def test_demo_tells_its_story():
    conftest.need_osprey()
    done = subprocess.run(
        [harness.osprey_binary(), "demo", "--once", "--listen", "127.0.0.1:0"]
        + ["--metrics", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Direct: the error. Through Osprey: what was injected.
    assert "PanguParameterInvalidException" in done.stdout
    assert f"SET {harness.ORC} = false" in done.stdout
