"""ODBC, as BI tools use it: pyodbc on Debian's psqlodbc, in each way that this driver has to fetch and to
prepare. What it finds in the catalogs and reads is the same through Osprey and direct."""

import threading

import pyodbc
import pytest

import harness
import tasks

WAYS = {
    # Statements are prepared by the server; an error rolls its statement back (a savepoint each).
    "usual": "UseServerSidePrepare=1;Protocol=7.4-2",
    "simple": "UseServerSidePrepare=0;Protocol=7.4-1",
    # Every SELECT is a cursor that is fetched by parts.
    "cursors": "UseDeclareFetch=1;Fetch=7;UseServerSidePrepare=1;Protocol=7.4-2",
    "simple-cursors": "UseDeclareFetch=1;Fetch=7;UseServerSidePrepare=0;Protocol=7.4-1",
}


def connect(endpoint, *options, sslmode="disable", **changes):
    fields = {
        "Driver": "PostgreSQL Unicode",
        "Server": endpoint.host,
        "Port": endpoint.port,
        "Database": endpoint.dbname,
        "UID": endpoint.user,
        "PWD": endpoint.password,
        "SSLmode": sslmode,
        **changes,
    }
    fields = [f"{name}={value}" for name, value in fields.items()]
    return pyodbc.connect(";".join([*fields, *options]))


def rows(cursor):
    return [tuple(row) for row in cursor.fetchall()]


def catalog(cursor):
    """What a BI tool asks before it shows a list of tables."""
    seen = [rows(cursor.tables()), rows(cursor.columns()), rows(cursor.procedures(schema="hologres"))]
    for table in ("people", "salaries", "salary_names", "payments", "notes"):
        seen.append(rows(cursor.primaryKeys(table)))
        seen.append(rows(cursor.foreignKeys(table)))
        seen.append(rows(cursor.statistics(table)))
        seen.append(rows(cursor.rowIdColumns(table)))
    return seen


def seen_by(endpoint, *options):
    connection = connect(endpoint, *options)
    cursor = connection.cursor()
    seen = catalog(cursor)
    for statement, _ in tasks.READS.values():
        seen += [rows(cursor.execute(statement)), cursor.description]
    connection.commit()

    for bound in (3, 5):
        statement = "SELECT name, amount, paid FROM salaries WHERE id <= ?"
        seen.append(rows(cursor.execute(statement, bound)))
    cursor.execute("INSERT INTO copied SELECT id, name, amount FROM salaries WHERE id < ?", 40)
    seen.append(cursor.rowcount)
    cursor.executemany("INSERT INTO copied (id, name) VALUES (?, ?)", [(-n, str(n)) for n in range(9)])
    seen.append(rows(cursor.execute("SELECT * FROM copied ORDER BY id, name")))
    connection.rollback()
    seen.append(rows(cursor.execute("SELECT count(*) FROM copied")))

    for statement in ("SELECT 1 / (id - 1) FROM salaries", "SELECT nothing FROM salaries"):
        with pytest.raises(pyodbc.Error) as caught:
            cursor.execute(statement).fetchall()
        seen.append(caught.value.args)
        connection.rollback()

    connection.autocommit = True
    timer = threading.Timer(0.3, cursor.cancel)
    timer.start()
    with pytest.raises(pyodbc.Error) as caught:
        cursor.execute("SELECT pg_sleep(30), count(*) FROM salaries").fetchall()
    seen.append(caught.value.args)
    timer.join()
    seen.append(rows(cursor.execute("SELECT count(*) FROM salary_names")))
    connection.close()
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_session(pair, way):
    direct, osprey = pair
    # The driver's own setting for what is to be said first on every connection.
    expected = seen_by(direct, WAYS[way], f"ConnSettings=SET {harness.ORC} %3D off")
    assert sum(len(part) for part in expected if isinstance(part, list)) > 2000
    assert seen_by(osprey, WAYS[way]) == expected


@pytest.mark.parametrize("role", sorted(harness.ROLES))
@pytest.mark.parametrize("tls", ["disable", "require", "verify-full"])
def test_login(tls_cluster, tls_osprey, role, tls):
    # libpq's parameter for the authority has no place of its own in the connection string.
    options = [f"pqopt={{sslrootcert={tls_cluster.ca}}}"] if tls == "verify-full" else []
    endpoint = tls_osprey.endpoint("tls", user=role)
    connection = connect(endpoint, *options, sslmode=tls, Server="localhost")
    assert connection.execute("SELECT current_user").fetchval() == role
    if role != "osprey_catalog":
        assert connection.execute("SELECT count(*) FROM salaries").fetchval() == 1000
    connection.close()
    if role != "app_trust":
        with pytest.raises(pyodbc.Error, match="password authentication failed"):
            connect(endpoint, *options, sslmode=tls, PWD="wrong")
