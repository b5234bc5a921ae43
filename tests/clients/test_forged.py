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
