"""The pangu error, rewritten: what a client sees when Osprey may not or cannot help."""

import psycopg
import pytest

import harness
import tasks

ENCRYPTED = "SELECT count(*) FROM salaries"
QUOTED = '"Odd ""name"""'


def pangu_error(connection, statement=ENCRYPTED, simple=False):
    """The fields of the error that a session gets which asks for HQE itself."""
    connection.execute(f"SET {harness.ORC} = on")
    cursor = psycopg.ClientCursor(connection) if simple else connection.cursor()
    with pytest.raises(psycopg.errors.InternalError_) as caught:
        cursor.execute(statement)
    return caught.value.diag


@pytest.mark.parametrize("simple", [True, False], ids=["simple", "extended"])
def test_rewritten_error(through_osprey, simple):
    """Severity and SQLSTATE stay, the vendor's text moves to DETAIL, HINT says what to run."""
    with through_osprey.connect() as connection:
        error = pangu_error(connection, simple=simple)
        assert error.severity == "ERROR"
        assert error.sqlstate == "XX000"
        assert not tasks.is_pangu(error.message_primary)
        assert "encrypted" in error.message_primary
        assert tasks.is_pangu(error.message_detail)
        assert harness.ORC in error.message_hint
        # Fields that name the place survive.
        assert error.source_function == "fail_unless_readable"
        # The session goes on.
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)


def test_hint_is_a_statement_that_works(through_osprey):
    """The session that chose HQE itself runs what HINT says, and reads."""
    with through_osprey.connect() as connection:
        connection.execute(pangu_error(connection).message_hint)
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)


def test_hint_for_the_whole_database(cluster, osprey):
    """With the database's name quoted as it must be, and it does mend it for new connections."""
    database = cluster.create_database('Odd "name"')
    cluster.query(database, f"ALTER DATABASE {QUOTED} SET hologres.refuse_set = on")
    with osprey.endpoint(database).connect() as connection:
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            connection.execute(ENCRYPTED)
    hint = caught.value.diag.message_hint
    assert hint == f"ALTER DATABASE {QUOTED} SET {harness.ORC} = false;"
    cluster.query(database, f"ALTER DATABASE {QUOTED} RESET hologres.refuse_set")
    cluster.query(database, hint)
    with cluster.endpoint(database).connect() as connection:
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)


def test_rows_come_before_the_error(through_osprey, cluster):
    """A scan that fails late: the rows that were there arrive, then the rewritten error."""
    database = through_osprey.dbname
    cluster.query(database, f"ALTER DATABASE {database} SET hologres.fail_after_rows = 500")
    rows = []
    with through_osprey.connect() as connection:
        connection.execute(f"SET {harness.ORC} = on")
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            for row in connection.cursor().stream("SELECT id FROM salaries"):
                rows.append(row[0])
    assert rows == list(range(1, 501))
    assert tasks.is_pangu(caught.value.diag.message_detail)


def test_text_that_quotes_the_error_is_no_error(through_osprey):
    """A row, a notice, or somebody's own exception: none is touched."""
    quoted = f"{harness.PANGU}x:1/product/odps/p/data/t, errorcode: 9"
    with through_osprey.connect() as connection:
        row = psycopg.ClientCursor(connection).execute(f"SELECT '{quoted}'").fetchone()
        assert row == (quoted,)
        notices = []
        connection.add_notice_handler(lambda diag: notices.append(diag.message_primary))
        connection.execute(f"DO $$ BEGIN RAISE NOTICE '{quoted}'; END $$")
        assert notices == [quoted]


def test_other_errors_are_not_touched(endpoint):
    with endpoint.connect() as connection:
        with pytest.raises(psycopg.errors.DivisionByZero) as caught:
            connection.execute("SELECT 1 / 0 FROM salaries WHERE false OR 1 / 0 = 1")
        diagnostics = caught.value.diag
        assert diagnostics.message_primary == "division by zero"
        assert diagnostics.message_detail is None
        assert diagnostics.message_hint is None


def test_default_key_is_not_helped_by_sqe(through_osprey, cluster):
    """Data under the default key: SQE cannot read it either; the client gets an error, not a hang."""
    with through_osprey.connect() as connection:
        with pytest.raises(psycopg.errors.InternalError_):
            connection.execute("SELECT * FROM ledger")
        assert connection.execute("SELECT count(*) FROM people").fetchone() == (100,)
