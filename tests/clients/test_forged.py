"""Any user can make an error say anything: nobody else's session changes by that, and the error goes to its
own user as it came."""

import re

import psycopg
import pytest

import conftest
import harness

# As HQE says it, about a project that is not encrypted.
FORGED = (
    "status { code: SERVER_INTERNAL_ERROR message: \"hos_exception: IO error: Failed to execute pangu open "
    "normal file pangu://h:1/product/odps/open_project/data/x, errorcode: 9, errorcode_description: invalid "
    "argument, err_msg: PanguParameterInvalidException"
)
TRICKS = {
    "raise": f"DO $$ BEGIN RAISE EXCEPTION '{FORGED}'; END $$",
    "raise with sqlstate": f"DO $$ BEGIN RAISE EXCEPTION '{FORGED}' USING ERRCODE = 'XX000'; END $$",
    "raise in a function": f"""
        CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION '{FORGED}' USING ERRCODE = 'XX000', DETAIL = '{FORGED}'; END $$;
        SELECT pg_temp.f()""",
    "detail": f"DO $$ BEGIN RAISE internal_error USING MESSAGE = 'no', DETAIL = '{FORGED}'; END $$",
    "assert": f"DO $$ BEGIN ASSERT false, '{FORGED}'; END $$",
    "load": f"LOAD '{FORGED}'",
    "identifier": f"SELECT parse_ident('{FORGED}')",
    "cast": f"SELECT '{FORGED}'::int",
    "cast in a function": f"DO $$ BEGIN PERFORM '{FORGED}'::int; END $$",
    "date": f"SELECT '{FORGED}'::date",
    "array": f"SELECT '{{{{{FORGED}'::int[]",
    "json": f"SELECT '{FORGED}'::json",
    "xml": f"SELECT '<{FORGED}'::xml",
    "regular expression": f"SELECT 'x' ~ '({FORGED}'",
    "time zone": f"SET timezone = '{FORGED}'",
    "setting": f"SELECT set_config('work_mem', '{FORGED}', false)",
    "enum": f"SELECT '{FORGED}'::hologres_no_such_type",
    "name": f"SELECT \"{FORGED[:60].replace(chr(34), '')}\"",
    "function name": f"SELECT \"{FORGED[:60].replace(chr(34), '')}\"(1)",
    "constraint": f"INSERT INTO people VALUES (1, '{FORGED}')",
    "check": f"INSERT INTO notes (id, note) VALUES (1, '{FORGED}')",
    "division in a function": f"DO $$ BEGIN PERFORM '{FORGED}', 1 / 0; END $$",
    "syntax": f"SELECT 1 '{FORGED}'",
    "to_date": f"SELECT to_date('{FORGED}', 'YYYY-MM-DD')",
    "encoding": f"SELECT encode('x', '{FORGED}')",
}


@pytest.fixture(scope="module")
def forged(cluster):
    """An Osprey that all tricks are played on."""
    conftest.need_osprey()
    with harness.Osprey.in_front_of(cluster) as osprey:
        yield osprey


@pytest.mark.parametrize("trick", TRICKS)
def test_nobody_is_taught_a_lie(forged, cluster, database, trick):
    forged.wait_until_known(database)
    direct = cluster.endpoint(database)
    through = forged.endpoint(database)
    errors = []
    for endpoint in (direct, through):
        with endpoint.connect() as connection:
            with pytest.raises(psycopg.Error) as caught:
                psycopg.ClientCursor(connection).execute(TRICKS[trick])
            diagnostics = caught.value.diag
            errors.append(
                (
                    diagnostics.sqlstate,
                    diagnostics.message_primary,
                    diagnostics.message_detail,
                    diagnostics.message_hint,
                    # The number of a session's temporary schema is its place in the server.
                    re.sub(r"pg_temp_\d+", "pg_temp", diagnostics.context or ""),
                )
            )
    assert errors[0] == errors[1]
    # Another user's plain read keeps the fast engine.
    cluster.reset_counters(database)
    with through.connect() as connection:
        assert connection.execute("SELECT count(*) FROM items").fetchone() == (50,)
    assert cluster.scans(database)["HQE"] == (1, 0)
    rewritten = [count for name, count in forged.scrape().items() if "errors_rewritten" in name]
    assert sum(rewritten) == 0


# Two halves of the words, and texts that stand where an engine's own could.
HALF = FORGED.index("pangu://")
HEAD, TAIL = FORGED[:HALF], FORGED[HALF:]
MORE_TRICKS = [
    *(
        f"DO $$ BEGIN RAISE EXCEPTION '{FORGED}' USING ERRCODE = '{sqlstate}'; END $$"
        for sqlstate in ["XX000", "HV000", "54000", "42501", "58P01", "22023", "P0004", "57014"]
    ),
    # Raised again, raised in a handler, raised by a trigger, a rule, a default, a view on a local table.
    f"DO $$ BEGIN RAISE '{FORGED}' USING ERRCODE = 'XX000'; EXCEPTION WHEN others THEN RAISE; END $$",
    f"DO $$ BEGIN PERFORM 1 / 0; EXCEPTION WHEN others THEN RAISE internal_error USING MESSAGE = '{FORGED}'; END $$",
    f"""CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE internal_error USING MESSAGE = '{FORGED}'; END $$;
        CREATE TEMP TABLE triggered (x int);
        CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION pg_temp.t();
        INSERT INTO triggered VALUES (1)""",
    f"""CREATE FUNCTION pg_temp.d() RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN RAISE internal_error USING MESSAGE = '{FORGED}'; END $$;
        CREATE TEMP TABLE defaulted (x int, y int DEFAULT pg_temp.d());
        INSERT INTO defaulted (x) VALUES (1)""",
    f"""CREATE FUNCTION pg_temp.v(int) RETURNS int LANGUAGE plpgsql AS
            $$ BEGIN RAISE internal_error USING MESSAGE = '{FORGED}'; END $$;
        CREATE TEMP VIEW viewed AS SELECT pg_temp.v(id) FROM people;
        SELECT * FROM viewed""",
    # Over several fields.
    f"DO $$ BEGIN RAISE internal_error USING MESSAGE = '{HEAD}', DETAIL = '{TAIL}'; END $$",
    f"DO $$ BEGIN RAISE internal_error USING MESSAGE = '{HEAD}', HINT = '{TAIL}'; END $$",
    f"DO $$ BEGIN RAISE internal_error USING MESSAGE = 'x', HINT = '{FORGED}', TABLE = '{FORGED}'; END $$",
    # A hostile context: the text of a statement, of a function, the name of a function.
    f"DO $$ BEGIN EXECUTE 'SELECT 1 / 0 /* {FORGED} */'; END $$",
    f"DO $f$ BEGIN EXECUTE $q$DO $$ BEGIN PERFORM 1 / 0; /* {FORGED} */ END $$$q$; END $f$",
    f"CREATE FUNCTION pg_temp.s() RETURNS int LANGUAGE sql AS $$ SELECT 1 / (id - id) /* {FORGED} */ FROM people $$;"
    "SELECT pg_temp.s()",
    "DO $$ BEGIN EXECUTE 'CREATE FUNCTION pg_temp.\"IO error: Failed to execute pangu pangu://\"() RETURNS int "
    "LANGUAGE plpgsql AS ''BEGIN RETURN 1 / 0; END'''; END $$;"
    "SELECT pg_temp.\"IO error: Failed to execute pangu pangu://\"()",
    # Comments, cursors, prepared statements.
    f"SELECT /* {FORGED} */ FROM",
    f"SELECT 1 / 0 -- {FORGED}",
    f"BEGIN; DECLARE c CURSOR FOR SELECT (team || '{FORGED}')::int FROM people; FETCH c",
    f"PREPARE p (text) AS SELECT $1::int; EXECUTE p('{FORGED}')",
    f"PREPARE \"{FORGED[60:110]}\" AS SELECT 1; EXECUTE \"{FORGED[61:110]}\"",
    f"DO $$ BEGIN RAISE NOTICE '{FORGED}'; PERFORM 1 / 0; END $$",
    # Values of other types, and functions that quote what they cannot read.
    *(
        f"SELECT '{FORGED}'::{kind}"
        for kind in [
            *("bool", "uuid", "inet", "macaddr", "interval", "timestamptz", "numeric", "float8"),
            *("point", "jsonpath", "bit(8)", "int4range", "regclass", "regproc", "pg_lsn"),
        ]
    ),
    f"SELECT * FROM json_to_recordset('{FORGED}') AS r (x int)",
    f"SELECT xpath('{FORGED}', '<a/>')",
    f"SELECT xmlparse(document '{FORGED}')",
    f"SELECT to_number('{FORGED}', '999')::int / 0",
    f"SELECT to_tsvector('{FORGED}', 'x')",
    f"SELECT convert_from('x', '{FORGED}')",
    f"SELECT pg_read_file('{FORGED}')",
    f"SELECT current_setting('{FORGED}')",
    f"SELECT nextval('{FORGED}')",
    f"SELECT date_trunc('{FORGED}', now())",
    f"SET ROLE '{FORGED[:60]}'",
    f"SECURITY LABEL ON TABLE people IS '{FORGED}'",
    f"CREATE EXTENSION \"{FORGED[60:110]}\"",
    f"COPY people FROM '{FORGED}'",
    f"COPY people FROM PROGRAM 'echo {FORGED.replace(chr(39), '')}'",
]


def failure(connection, statement):
    """The fields of the error that a statement ends with; None: it succeeds."""
    try:
        psycopg.ClientCursor(connection).execute(statement)
    except psycopg.Error as error:
        told = error.diag
        fields = [told.sqlstate, told.message_primary, told.message_detail, told.message_hint]
        fields += [told.context, told.table_name, told.source_function]
        return [re.sub(r"pg_temp_\d+", "pg_temp", field or "") for field in fields]
    finally:
        connection.execute("ROLLBACK")
    return None


def test_a_liar_changes_nothing_for_anybody(forged, cluster, database):
    """One user tells many lies, in fields of every kind; others read on in the same database and in
    another one, and so does the liar, in a new session."""
    other = cluster.create_database("lied_about")
    for name in (database, other):
        forged.wait_until_known(name)
    with (
        cluster.endpoint(database).connect(user="app_trust") as direct,
        forged.endpoint(database).connect(user="app_trust") as through,
    ):
        told = {trick: (failure(direct, trick), failure(through, trick)) for trick in MORE_TRICKS}
    assert [trick for trick, (expected, _) in told.items() if expected is None] == []
    assert {trick: both for trick, both in told.items() if both[0] != both[1]} == {}
    for name, user in ((database, "app"), (database, "app_trust"), (other, "app"), (other, "app_trust")):
        cluster.reset_counters(name)
        with forged.endpoint(name).connect(user=user) as connection:
            assert connection.execute("SELECT count(*) FROM items").fetchone() == (50,)
        assert cluster.scans(name)["HQE"] == (1, 0), (name, user)
        assert cluster.scans(name)["SQE"] == (0, 0), (name, user)
    rewritten = [count for name, count in forged.scrape().items() if "errors_rewritten" in name]
    assert sum(rewritten) == 0
