"""`osprey try` with a Hologres that asks for a password: what fails direct gives rows through Osprey, and
nothing is read without consent."""

import os
import pty
import subprocess

import conftest
import harness


def command(cluster, database, *arguments):
    return [
        harness.osprey_binary(),
        "try",
        *("--upstream", f"127.0.0.1:{cluster.port}"),
        *("--database", database),
        *("--user", "app"),
        *arguments,
    ]


def test_what_fails_direct_gives_rows_through_osprey(cluster, database):
    conftest.need_osprey()
    environment = {"PGPASSWORD": harness.PASSWORD}
    done = subprocess.run(
        command(cluster, database, "--read"), capture_output=True, text=True, env=environment
    )
    direct, _, through = done.stdout.partition("Through Osprey:")
    assert "finance_byok: FAILS on HQE: it is encrypted" in direct, done.stdout + done.stderr
    assert "can be read" in direct
    assert "finance_byok: SELECT * FROM " in through and "LIMIT 1: 1 rows" in through, done.stdout
    assert "[protect]\nprojects = [" in through and '"finance_byok"' in through
    # Data under the default key fails through Osprey as well, and the exit status says so.
    assert done.returncode == ("FAILS, too" in through), done.stdout


def test_the_password_is_asked_for_and_not_shown(cluster, database):
    conftest.need_osprey()
    arguments = command(cluster, database)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("PGPASSWORD", None)
        os.execv(arguments[0], [str(argument) for argument in arguments])
    said = b""
    while b"Password for user app: " not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, harness.PASSWORD.encode() + b"\n")
    while b"[y/N]" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, b"n\n")
    try:
        while more := os.read(terminal, 4096):
            said += more
    except OSError:
        pass  # The other side of the terminal is closed.
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0, said
    assert harness.PASSWORD.encode() not in said
    assert b"Nothing was read" in said and b"Without Osprey" not in said


def test_a_wrong_password_is_told(cluster, database):
    conftest.need_osprey()
    environment = {"PGPASSWORD": "wrong"}
    done = subprocess.run(command(cluster, database), capture_output=True, text=True, env=environment)
    assert done.returncode == 2
    assert "password authentication failed" in done.stderr, done.stderr


def test_over_tls_as_libpq_does(tls_cluster):
    """verify-full as far as the name in the certificate goes; and a server's authority that is not trusted."""
    conftest.need_osprey()
    database = tls_cluster.create_database("tried")
    environment = {"PGPASSWORD": harness.PASSWORD}

    def tried(*tls):
        arguments = command(tls_cluster, database, "--read", *tls)
        arguments[arguments.index("--upstream") + 1] = f"localhost:{tls_cluster.port}"
        return subprocess.run(arguments, capture_output=True, text=True, env=environment)

    trusted = tried("--tls", "verify-full", "--tls-ca", tls_cluster.ca)
    assert "finance_byok: FAILS on HQE: it is encrypted" in trusted.stdout, trusted.stderr
    assert "finance_byok: SELECT * FROM " in trusted.stdout.partition("Through Osprey:")[2], trusted.stdout
    refused = tried("--tls", "verify-full")
    assert refused.returncode == 2 and "certificate" in refused.stderr, refused.stderr
