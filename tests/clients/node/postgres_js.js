"use strict";
// postgres.js: pipelined statements on one connection, a transaction with a savepoint, a cursor, COPY,
// what is told of an error; prints what it got.

const postgres = require("postgres");

async function main() {
  const sql = postgres({
    host: process.env.PGHOST,
    port: Number(process.env.PGPORT),
    database: process.env.PGDATABASE,
    username: process.env.PGUSER,
    password: process.env.PGPASSWORD,
    max: 1,
    connection: process.env.OSPREY_TEST_OPTIONS ? { options: process.env.OSPREY_TEST_OPTIONS } : {},
    onnotice: () => {},
  });
  const print = (name, value) => console.log(name, JSON.stringify(value));
  print("read", await sql`SELECT id, name FROM salaries WHERE id <= ${3} ORDER BY id`);
  const many = await Promise.all(
    [1, 2, 3, 4].flatMap((id) => [
      sql`SELECT name FROM salary_names WHERE id = ${id}`,
      sql`SELECT team FROM people WHERE id = ${id}`,
    ]),
  );
  print("pipelined", many);
  print("simple", await sql`SELECT count(*) FROM salaries`.simple());
  await sql.begin(async (inside) => {
    print("plain", await inside`SELECT count(*) FROM people`);
    await inside.savepoint(async (deeper) => print("deeper", await deeper`SELECT count(*) FROM salaries`));
  });
  for await (const rows of sql`SELECT id FROM salaries WHERE id <= 5 ORDER BY id`.cursor(2)) print("cursor", rows);
  const copied = await sql`COPY (SELECT id FROM salaries WHERE id <= 3 ORDER BY id) TO STDOUT`.readable();
  for await (const chunk of copied) print("copy", chunk.toString());
  try {
    await sql`SELECT 1 / (id - 2) FROM salaries WHERE id <= 3 ORDER BY id`;
  } catch (error) {
    print("error", [error.code, error.message]);
  }
  print("after", await sql`SELECT count(*) FROM items`);
  await sql.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
