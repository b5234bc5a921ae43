"""What every client is asked to do: the statements, and how many rows or changes they give."""

import harness

# name: (statement, rows)
READS = {
    "table": ("SELECT id, name, amount, paid FROM salaries", 1000),
    "three-layer": ("SELECT id, name FROM sales.eu_salaries", 10),
    "quoted": ('SELECT id, name FROM "Mixed Case"."The ""Salaries"""', 1000),
    "view": ("SELECT id, name, amount FROM salary_names", 1000),
    "view-on-view": ("SELECT id, name FROM sales.first_names", 5),
    "join": ("SELECT p.team, s.name FROM people p JOIN salaries s USING (id)", 100),
    "partition": ("SELECT day, id, amount FROM payments", 8),
}

# Writes 1000 rows into a plain table.
WRITE = "INSERT INTO copied SELECT id, name, amount FROM salaries"
WRITTEN = 1000

# Statements of a session that has nothing to do with encrypted data.
PLAIN = [
    "SELECT count(*) FROM people",
    "INSERT INTO notes (note) VALUES ('salaries are not read here')",
    "SELECT label FROM item_labels",
    "SELECT 'SELECT * FROM salaries'",
    "UPDATE notes SET note = 'x' WHERE id = 1",
    "BEGIN",
    "SELECT team FROM people WHERE id = 1",
    "ROLLBACK",
]


def is_pangu(text):
    """Is this HQE's error, whoever printed it?"""
    return harness.PANGU in text
