"""The differential test: what a client sees through Osprey is what it sees direct, with the right
setting from the start, whatever it sends.

    OSPREY_CASES=20000 tests/run clients -k differential     a longer run
    OSPREY_SEED=4711 OSPREY_CASES=1 tests/run clients -k differential    one case again

The seeds are printed; a case that differs is shrunk before it is shown.
"""

import concurrent.futures
import os

import psycopg
import pytest

import differential
import harness
from differential import Case, shrink, transcript

CASES = int(os.environ.get("OSPREY_CASES", "1000"))
SEED = int(os.environ.get("OSPREY_SEED", "1"))
WORKERS = 8
RIGHT = {"options": f"-c {harness.ORC}=off"}
# The error that Osprey makes of HQE's, where nothing could be set in time.
REWRITTEN = b"Hologres' engine HQE cannot read"
# Such errors per case, at most: a pipeline that has begun leaves no room for a setting.
RARE = 0.02
# How many failures are enough to look at.
ENOUGH = 5


def make_database(cluster, name):
    cluster.create_database(name)
    with cluster.admin(name) as connection:
        for worker in range(WORKERS):
            connection.execute(
                f"CREATE TABLE scratch_{worker} (id int, name text); CREATE SEQUENCE sequence_{worker};"
                f"GRANT ALL ON scratch_{worker} TO PUBLIC; GRANT ALL ON sequence_{worker} TO PUBLIC"
            )
        connection.execute(
            "CREATE FOREIGN TABLE 订单 (id int, name text) SERVER odps_server"
            " OPTIONS (project_name 'finance_byok', table_name 'salaries'); GRANT SELECT ON 订单 TO PUBLIC"
        )
    return name


@pytest.fixture(scope="module")
def database(cluster):
    return make_database(cluster, "differential")


@pytest.fixture(scope="module")
def planning_database(cluster):
    """Where the engine is chosen as a statement is planned, and prepared statements keep theirs."""
    name = make_database(cluster, "differential_planning")
    with cluster.admin(name) as connection:
        connection.execute(f"ALTER DATABASE {name} SET hologres.plan_chooses_engine = on")
    return name


def knows(osprey, *databases):
    """An Osprey that knows what is encrypted, and that this user may set the route."""
    for database in databases:
        osprey.wait_until_known(database)
        with osprey.endpoint(database, user="app_trust").connect() as connection:
            connection.execute("SELECT count(*) FROM salaries")
            with connection.transaction():
                connection.execute("SELECT count(*) FROM salaries")
    return osprey


@pytest.fixture(scope="module")
def known(cluster, database, planning_database):
    with harness.Osprey.in_front_of(cluster) as osprey:
        yield knows(osprey, database, planning_database)


@pytest.fixture(scope="module")
def by_statement(cluster, database, planning_database):
    with harness.Osprey.in_front_of(cluster, "--scope", "statement") as osprey:
        yield knows(osprey, database, planning_database)


class Sides:
    """One worker: its objects, a clean start for each run, and the two ways to the server."""

    def __init__(self, cluster, database, worker):
        self.worker = worker
        self.admin = cluster.admin(database)
        # A session that is still there after its client has gone may hold a lock: a failure, too.
        self.admin.execute("SET lock_timeout = '5s'")
        self.direct_end = cluster.endpoint(database)

    def _run(self, endpoint, case, steps, options):
        try:
            self.admin.execute(f"TRUNCATE scratch_{self.worker}")
            self.admin.execute(f"ALTER SEQUENCE sequence_{self.worker} RESTART")
            return transcript(endpoint, case, steps, options)
        except (differential.Silent, OSError) as failure:
            return [(b"!", str(failure).encode())]
        except psycopg.errors.LockNotAvailable as failure:
            left = self.admin.execute(
                "SELECT client_port, state, wait_event, query FROM pg_stat_activity"
                " WHERE usename = 'app_trust'"
            ).fetchall()
            raise AssertionError(f"seed {case.seed}: a session outlives its client: {left}") from failure

    def direct(self, case, steps):
        return self._run(self.direct_end, case, steps, RIGHT)

    def through(self, osprey, case, steps):
        return self._run(osprey.endpoint(self.direct_end.dbname), case, steps, {})

    def close(self):
        self.admin.close()


def shown(transcript):
    return "\n".join(f"    {kind.decode()} {payload!r}" for kind, payload in transcript[:4])


def report(case, steps, direct, through):
    """What was sent, and both transcripts from where they begin to differ."""
    same = 0
    while direct[same : same + 1] == through[same : same + 1] != []:
        same += 1
    direct, through = direct[same:], through[same:]
    labels = "\n".join(f"    {step.label}{' (waits)' if step.waits else ''}" for step in steps)
    return (
        f"seed {case.seed}, chunks of {case.chunk}\n  sends\n{labels}\n  {same} answers are the same, then direct\n"
        f"{shown(direct)}\n  through Osprey\n{shown(through)}"
    )


def is_beyond_reach(steps, direct, through):
    """True if the transcripts differ first by an error of HQE's that Osprey has rewritten; or has let
    pass, where messages behind a COPY FROM STDIN have made it a mere relay."""
    words = [REWRITTEN]
    if any(b"FROM STDIN" in step.data for step in steps):
        words.append(harness.PANGU.encode())
    for ours in through:
        if ours not in direct[:1]:
            return ours[0] == b"E" and any(each in ours[1] for each in words)
        direct = direct[1:]
    return False


def run_cases(cluster, database, check, seeds):
    """Runs `check(sides, seed)` on every seed; returns what it reports, of the first few."""
    reports = []

    def work(worker):
        sides = Sides(cluster, database, worker)
        for seed in seeds[worker::WORKERS]:
            if len(reports) >= ENOUGH:
                break
            if (found := check(sides, seed)) is not None:
                print(found, flush=True)
                reports.append(found)
        sides.close()

    print(f"seeds {seeds[0]} to {seeds[-1]}")
    with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(work, range(WORKERS)))
    return reports


def compare(cluster, database, osprey, make, cases):
    """Runs the cases that `make(seed, worker)` makes. How many met an error of HQE's that nothing
    could spare them."""
    beyond_reach = []

    def check(sides, seed):
        case = make(seed, sides.worker)

        def both(steps):
            return sides.direct(case, steps), sides.through(osprey, case, steps)

        least = None

        def differs(steps):
            nonlocal least
            pair = both(steps)
            differ = pair[0] != pair[1] and not is_beyond_reach(steps, *pair)
            if differ:
                least = (steps, *pair)
            elif pair[0] != pair[1] and steps is case.steps:
                beyond_reach.append(seed)
            return differ

        if not differs(case.steps):
            return None
        shrink(case.steps, differs)
        return report(case, *least)

    reports = run_cases(cluster, database, check, range(SEED, SEED + cases))
    assert not reports, "\n\n".join(reports)
    print(f"{len(beyond_reach)} of {cases} met HQE's error: {beyond_reach[:10]}")
    return len(beyond_reach)


@pytest.mark.parametrize("broken", [False, True], ids=["valid", "broken"])
def test_known(cluster, database, known, broken):
    """Nothing in the transcript shows that Osprey is there."""
    cases = CASES if not broken else max(CASES // 2, 1)
    met = compare(cluster, database, known, lambda *names: Case(*names, broken=broken), cases)
    assert met <= max(RARE * cases, 1)


def test_known_and_by_statement(cluster, database, by_statement):
    cases = max(CASES // 2, 1)
    met = compare(cluster, database, by_statement, Case, cases)
    assert met <= max(RARE * cases, 1)


@pytest.mark.parametrize("scope", ["known", "by_statement"])
def test_known_and_the_engine_chosen_at_planning(cluster, planning_database, scope, request):
    cases = max(CASES // 4, 1)
    met = compare(cluster, planning_database, request.getfixturevalue(scope), Case, cases)
    assert met <= max(RARE * cases, 1)


@pytest.mark.parametrize("engine_at", ["database", "planning_database"])
def test_nothing_known_and_only_reads(cluster, unknowing, engine_at, request):
    """What must be learned shows nowhere."""
    cases = max(CASES // 4, 1)
    database = request.getfixturevalue(engine_at)
    before = unknowing.scrape().get("osprey_retries_total", 0)
    met = compare(cluster, database, unknowing, lambda *names: Case(*names, reads=True), cases)
    assert met <= max(RARE * cases, 1)
    assert unknowing.scrape()["osprey_retries_total"] - before >= cases / 10


def test_nothing_known(cluster, database, unknowing):
    """What writes among others is not run again: its error says why; all else is as it would be direct."""
    cases = max(CASES // 2, 1)
    compare(cluster, database, unknowing, Case, cases)
