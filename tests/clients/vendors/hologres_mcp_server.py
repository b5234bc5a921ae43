"""hologres-mcp-server's tools, as its server calls them, in its pool of sessions; prints what they return."""

from hologres_mcp_server.utils import handle_call_tool

READ = "SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id"

for tool, query, serverless in [
    ("execute_hg_select_sql", READ, False),
    ("execute_hg_select_sql", "SELECT count(*) FROM salary_names", False),
    ("execute_hg_select_sql_with_serverless", READ, True),
    ("get_hg_query_plan", f"EXPLAIN {READ}", False),
    ("get_hg_execution_plan", f"EXPLAIN (ANALYZE, TIMING off, SUMMARY off) {READ}", False),
    ("gather_hg_table_statistics", "ANALYZE public.holo_rows", False),
    ("execute_hg_dml_sql", "INSERT INTO holo_rows SELECT id, name FROM salaries WHERE id <= 3", False),
    ("execute_hg_dml_sql", "UPDATE holo_rows SET note = 'changed' WHERE id = 1", False),
    ("execute_hg_select_sql", "SELECT * FROM holo_rows ORDER BY id", False),
    ("show_hg_table_ddl", """SELECT hg_dump_script('"public"."holo_rows"')""", False),
    ("get_hg_table_storage_size", "SELECT hologres.hg_relation_size('public.holo_rows', 'data')", False),
    ("get_hg_slow_queries", "SELECT query_id FROM hologres.hg_query_log LIMIT 10", False),
    ("execute_hg_ddl_sql", "CREATE TABLE made_by_mcp AS SELECT id, name FROM salary_names WHERE id <= 4", False),
    ("execute_hg_select_sql", "SELECT count(*) FROM made_by_mcp", False),
    ("execute_hg_ddl_sql", "DROP TABLE made_by_mcp", False),
    ("execute_hg_select_sql", "SELECT no_such_column FROM salaries", False),
    ("list_hg_tables_in_a_schema", "SELECT tablename FROM pg_tables WHERE schemaname = 'sales'", False),
    (
        "create_hg_maxcompute_foreign_table",
        'IMPORT FOREIGN SCHEMA "finance_byok#eu" LIMIT TO (salaries) FROM SERVER odps_server INTO imported;',
        False,
    ),
    ("execute_hg_select_sql", "SELECT count(*) FROM imported.salaries", False),
    ("execute_hg_select_sql", "SHOW application_name", False),
]:
    print(tool, handle_call_tool(tool, query, serverless), sep="\n")
