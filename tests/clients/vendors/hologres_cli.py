"""hologres-cli's commands, one after the other in one process; prints what they print."""

import os
import re

from click.testing import CliRunner
from hologres_cli.config_store import set_profile
from hologres_cli.main import cli

set_profile(
    {
        "name": "test",
        "connection_mode": "jdbc",
        "auth_mode": "basic",
        "endpoint": os.environ["PGHOST"],
        "port": int(os.environ["PGPORT"]),
        "database": os.environ["PGDATABASE"],
        "username": os.environ["PGUSER"],
        "password": os.environ["PGPASSWORD"],
    }
)

READ = "SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id"
for command in [
    ["sql", "run", READ],
    ["sql", "run", "SELECT count(*) AS n FROM salary_names"],
    ["sql", "explain", READ],
    ["data", "count", "public.salaries"],
    ["data", "export", "sales.first_names", "--file", "first_names.csv"],
    ["data", "export", "--query", READ, "--file", "query.csv"],
    ["sql", "run", "--write", "INSERT INTO holo_rows SELECT id, name FROM salaries WHERE id <= 3"],
    ["sql", "run", "INSERT INTO holo_rows VALUES (9, 'refused')"],
    ["sql", "run", "SELECT * FROM holo_rows ORDER BY id"],
    ["sql", "run", "--write", "DELETE FROM holo_rows WHERE id > 0"],
    ["guc", "show", "hg_computing_resource"],
    ["schema", "tables"],
    ["sql", "run", "SHOW application_name"],
]:
    done = CliRunner().invoke(cli, ["--format", "jsonl", *command])
    # What a command took is not what it printed.
    print(command, done.exit_code, re.sub(r'"(duration|elapsed)\w*": ?[\d.]+', "", done.output), sep="\n")
for name in ["first_names.csv", "query.csv"]:
    print(open(name).read())
