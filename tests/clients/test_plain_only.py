"""A session that touches only plain tables never has the setting changed: the server says so."""

import psycopg

import harness
import tasks


def show(connection):
    return connection.execute(f"SHOW {harness.ORC}").fetchone()[0]


def test_plain_session(endpoint, cluster):
    with endpoint.connect() as connection:
        assert show(connection) == "on"
        for statement in tasks.PLAIN:
            connection.execute(statement)
            psycopg.ClientCursor(connection).execute(statement.replace("BEGIN", "COMMIT"))
        with connection.cursor().copy("COPY notes (note) FROM STDIN") as copy:
            copy.write_row(["SELECT * FROM salaries"])
        assert show(connection) == "on"
    assert cluster.setting_changes(endpoint.dbname) == 0
    assert cluster.scans(endpoint.dbname)["SQE"] == (0, 0)


def test_open_project_stays_on_hqe(endpoint, cluster):
    """MaxCompute data that is not encrypted is read by the fast engine."""
    with endpoint.connect() as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (50,)
    assert cluster.scans(endpoint.dbname)["HQE"] == (1, 0)
    assert cluster.setting_changes(endpoint.dbname) == 0


def test_other_sessions_are_not_touched(through_osprey, cluster):
    """One session's route is that session's alone."""
    with through_osprey.connect() as plain, through_osprey.connect() as encrypted:
        assert encrypted.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
        assert show(encrypted) == "off"
        assert show(plain) == "on"
    assert cluster.setting_changes(through_osprey.dbname) == 1


def test_setting_is_off_in_the_database_already(through_osprey, cluster, osprey):
    """ALTER DATABASE ... SET did what Osprey would do: nothing is injected into new sessions."""
    database = through_osprey.dbname
    cluster.query(database, f"ALTER DATABASE {database} SET {harness.ORC} = off")
    with through_osprey.connect() as connection:
        assert connection.execute("SELECT count(*) FROM salaries").fetchone() == (1000,)
        assert show(connection) == "off"
