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


@pytest.mark.parametrize("how", ["set", "options", "parameter", "set_config", "transaction"])
def test_serverless_resources_that_read_nothing_encrypted(cluster, osprey, database, how):
    """Before V3.1.3 no engine reads it there: the error says so, and teaches nobody anything."""
    osprey.wait_until_known(database)
    through = osprey.endpoint(database)
    serverless = "hg_computing_resource = 'serverless'"
    login = {
        "options": {"options": "-c hg_computing_resource=serverless"},
        "parameter": {"options": "--hg-computing-resource=local -chg_computing_resource=serverless"},
    }
    statements = {
        "set": [f"SET {serverless}"],
        "set_config": ["SELECT set_config('hg_computing_resource', 'serverless', false)"],
        "transaction": ["BEGIN", f"SET LOCAL {serverless}"],
    }
    with through.connect(**login.get(how, {})) as connection:
        for statement in statements.get(how, []):
            connection.execute(statement)
        with pytest.raises(psycopg.errors.InternalError_) as caught:
            connection.execute(ENCRYPTED)
        error = caught.value.diag
        assert "OSP-1012" in error.message_detail
        assert "serverless" in error.message_primary
        assert error.message_hint == "SET hg_computing_resource = 'local';"
        if how == "transaction":
            connection.execute("ROLLBACK")
        else:
            connection.execute(error.message_hint)
        assert connection.execute(ENCRYPTED).fetchone() == (1000,)
        connection.execute("RESET ALL")
    # The version from which on they read it.
    version = "Hologres 3.1.3 (tag: release-3.1.x), compatible with PostgreSQL 11.3"
    cluster.query("postgres", f"ALTER DATABASE {database} SET hologres.version = '{version}'")
    with through.connect() as connection:
        connection.execute(f"SET {serverless}")
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


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("encoding", ["GBK", "GB18030", "UTF8"])
def test_rewritten_in_the_clients_encoding(cluster, database, tmp_path, language, encoding):
    """Each byte is valid there, and the names of tables and databases are what they are."""
    named = cluster.create_database(f"销售_{database}")
    cluster.query(
        named,
        """CREATE FOREIGN TABLE "工资誠" (id int) SERVER odps_server
               OPTIONS (project_name 'finance_byok', table_name 'salaries');
           GRANT SELECT ON "工资誠" TO PUBLIC""",
    )
    config = tmp_path / "osprey.toml"
    config.write_text(f'[observe]\nlanguage = "{language}"\ndocs = "https://docs.example.com"\n')
    with harness.Osprey.in_front_of(cluster, config=config) as osprey:
        osprey.wait_until_known(named)
        cluster.query(named, f'ALTER DATABASE "{named}" SET hologres.refuse_set = on')
        with osprey.endpoint(named).connect(client_encoding=encoding) as connection:
            with pytest.raises(psycopg.errors.InternalError_) as caught:
                psycopg.ClientCursor(connection).execute('SELECT id FROM "工资誠"')
    error = caught.value.diag
    told = [error.message_primary, error.message_detail, error.message_hint]
    for text in told:
        # psycopg puts this where a byte is not valid.
        assert "\ufffd" not in text, told
        assert "?" not in text, told
    assert "工资誠" in error.message_primary
    assert f'"{named}"' in error.message_hint
    assert ("加密" in error.message_primary) == (language == "zh")
    pages = {"en": "https://docs.example.com/errors#osp-", "zh": "https://docs.example.com/zh/errors#osp-"}
    assert pages[language] in error.message_detail
    cluster.query("postgres", f'DROP DATABASE "{named}" WITH (FORCE)')
