"""The PostgreSQL JDBC driver: each query mode, with and without autocommit, with fetch sizes 1 to 1000; a
session of all else that it can do, which must see the same as direct; each way to log in."""

import subprocess

import pytest

import harness
import tasks

DRIVER = "/usr/share/java/postgresql.jar"

# name: (kind, statement, rows)
TASKS = {
    **{name: ("read", *task) for name, task in tasks.READS.items()},
    "write": ("write", tasks.WRITE, tasks.WRITTEN),
    "prepared": ("prepared", "SELECT name FROM salaries WHERE id <= ?", 28),
    "batch": (
        "batch",
        "INSERT INTO copied SELECT id, name, amount FROM salary_names WHERE id <= ?",
        28,
    ),
    "plain": ("read", "SELECT team FROM people", 100),
}

MODES = ["simple", "extended", "extendedForPrepared"]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """java/, compiled."""
    output = tmp_path_factory.mktemp("classes")
    sources = sorted((harness.HERE / "java").glob("*.java"))
    harness.run(["javac", "-Xlint:all", "-Werror", "-cp", DRIVER, "-d", output, *sources])
    return output


@pytest.fixture(scope="module", params=["direct", "osprey", "unknowing"])
def outcomes(request, cluster, classes, tmp_path_factory):
    """What each run gave: {(mode, commit, task): {fetch size: outcome}}, and who was in between."""
    database = cluster.create_database("jdbc")
    if request.param == "direct":
        endpoint = cluster.endpoint(database)
    else:
        osprey = request.getfixturevalue(request.param)
        if request.param == "osprey":
            osprey.wait_until_known(database)
        endpoint = osprey.endpoint(database)
    listing = tmp_path_factory.mktemp("tasks") / "tasks.tsv"
    lines = [f"{name}\t{kind}\t{statement}\n" for name, (kind, statement, _) in TASKS.items()]
    listing.write_text("".join(lines))
    url = f"jdbc:postgresql://{endpoint.host}:{endpoint.port}/{database}?sslmode=disable"
    done = subprocess.run(
        ["java", "-cp", f"{classes}:{DRIVER}", "Tasks", url]
        + [endpoint.user, endpoint.password, listing],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = {}
    for line in done.stdout.splitlines():
        mode, commit, fetch_size, task, outcome = line.split("\t", 4)
        result.setdefault((mode, commit, task), {})[int(fetch_size)] = outcome
    return request.param, result


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("commit", ["autocommit", "transaction"])
@pytest.mark.parametrize("mode", MODES)
def test_jdbc(outcomes, mode, commit, task):
    way, result = outcomes
    by_fetch_size = result[mode, commit, task]
    assert sorted(by_fetch_size) == [1, 2, 100, 1000]
    for fetch_size, outcome in by_fetch_size.items():
        if way == "unknowing" and task == "partition":
            # Of its first partition, which HQE can read, rows have left already; or not.
            continue
        # What writes is not run again.
        explained = way == "unknowing" and TASKS[task][0] in ("write", "batch")
        if explained or (way == "direct" and task != "plain"):
            assert outcome.startswith("XX000 "), (fetch_size, outcome)
            assert tasks.is_pangu(outcome), (fetch_size, outcome)
            assert (way == "direct") != ("not run again" in outcome)
        else:
            assert outcome == str(TASKS[task][2]), (fetch_size, outcome)


def session(classes, endpoint, *task, host="127.0.0.1", **properties):
    """The exit status of java/Session.java, and what it printed."""
    properties = {"sslmode": "disable", **properties}
    properties = "&".join(f"{name}={value}" for name, value in properties.items())
    url = f"jdbc:postgresql://{host}:{endpoint.port}/{endpoint.dbname}?{properties}"
    done = subprocess.run(
        ["java", "-cp", f"{classes}:{DRIVER}", "Session", url, endpoint.user, endpoint.password, *task],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.mark.parametrize("mode", MODES)
def test_session(classes, pair, mode):
    direct, osprey = pair
    right = f"-c%20{harness.ORC}=off"
    status, expected = session(classes, direct, preferQueryMode=mode, options=right)
    assert status == 0, expected
    for mark in ["name 49", "salary_names", "canceling statement", "noted", "here payload", "true"]:
        assert mark in expected
    status, printed = session(classes, osprey, preferQueryMode=mode)
    assert status == 0, printed
    assert printed.splitlines() == expected.splitlines()


@pytest.mark.parametrize("role", sorted(harness.ROLES))
@pytest.mark.parametrize("tls", ["disable", "require", "verify-full"])
def test_login(classes, tls_cluster, tls_osprey, role, tls):
    how = {"host": "localhost", "sslmode": tls, "sslrootcert": tls_cluster.ca}
    endpoint = tls_osprey.endpoint("tls", user=role)
    assert session(classes, endpoint, "login", **how) == (0, f"{role}\t\n")
    if role != "app_trust":
        endpoint = tls_osprey.endpoint("tls", user=role, password="wrong")
        refused = f'28P01 FATAL: password authentication failed for user "{role}"\n'
        assert session(classes, endpoint, "login", **how) == (1, refused)
