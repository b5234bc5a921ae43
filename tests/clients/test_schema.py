"""The JSON schema of the configuration, beside what check-config says of the same text."""

import json
import subprocess
import tomllib

import jsonschema
import pytest

import conftest
import harness

REFERENCE = (harness.ROOT / "config" / "osprey.toml").read_text()
# The long form stands in the place of these.
SHORT = ("[listen]", "[upstream]", "[upstream.tls]")


@pytest.fixture(scope="module")
def validator():
    conftest.need_osprey()
    command = [harness.osprey_binary(), "check-config", "--schema"]
    schema = json.loads(harness.run(command))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def enabled(*marks, without=()):
    """The reference with the lines behind these marks as settings."""
    lines = []
    for line in REFERENCE.splitlines():
        mark = next((mark for mark in marks if line.startswith(mark)), "")
        if line not in without:
            lines.append(line[len(mark) :])
    return "\n".join(lines)


def mistakes(validator, text):
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize(
    "text",
    [
        REFERENCE,
        enabled("#= "),
        enabled("#= ", "#e.g. "),
        enabled("#or: ", without=SHORT),
        *(path.read_text() for path in sorted((harness.ROOT / "deploy").rglob("*.toml"))),
    ],
)
def test_what_is_shipped_is_right(validator, text):
    assert mistakes(validator, text) == []


def test_editors_show_what_the_reference_says(validator):
    limits = validator.schema["properties"]["limits"]["properties"]
    assert limits["drain_timeout"]["default"] == "30s"
    assert "SIGTERM" in limits["drain_timeout"]["description"]


WRONG = [
    "bananas = 1",
    "[limits]\nmax_sesions = 1",
    "[limits]\nmax_sessions = 0",
    '[limits]\nmax_sessions = "many"',
    '[limits]\nworkers = "some"',
    '[limits]\nlogin_timeout = "soon"',
    '[limits]\nlogin_timeout = "off"',
    "[limits]\nlogin_timeout = 5",
    '[limits]\ninspect_bytes = "1KB"',
    '[route]\nscope = "forever"',
    '[route]\nretry = "yes"',
    "[route]\n[[route.more]]",
    'include = "conf.d/*.toml"',
    "[console]\nuids = [-1]",
    "[[console.user]]\nname = 'ops'",
    "[catalog]\npassword = 'x'",
    "[[protect.project]]\nencryption = 'kms'",
    "protect = []",
    "[listen]\nallow = '10.0.0.0/8'",
    "[keys.cloud]\ntimeout = '1s'",
    "[reload]\nwatch = true",
]
RIGHT = [
    '[limits]\nworkers = "auto"\nidle_session_timeout = " 5 m "\ntcp_keepalive = "off"',
    '[route]\nscope = "statement"\nretry_buffer = "1 MiB"',
    "[console]\nuids = [0, 4294967295]",
    '[observe]\nlanguage = "zh"',
    '[takeover]\ndrain_after = "off"',
    '[reload]\nwatch = "2s"',
]


@pytest.mark.parametrize("text", WRONG + RIGHT)
def test_it_takes_what_osprey_takes(validator, tmp_path, text):
    path = tmp_path / "osprey.toml"
    path.write_text(text)
    command = [harness.osprey_binary(), "check-config", "--config", path, "--upstream", "holo:80"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == (text in RIGHT), done.stderr
    assert (mistakes(validator, text) == []) == (text in RIGHT), mistakes(validator, text)


def test_several_upstreams_have_names(validator):
    assert mistakes(validator, '[[upstream]]\nname = "a"\naddress = "h:1"') == []
    assert mistakes(validator, '[[upstream]]\naddress = "h:1"')
    assert mistakes(validator, '[upstream]\naddress = "h:1"') == []
