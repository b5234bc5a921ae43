// node-postgres: `node client.js session` does what it can and prints all it is told, one JSON a line;
// `node client.js login` logs in. Where to connect is in libpq's variables; TLS is "disable", "require"
// or "verify-full" in OSPREY_TEST_TLS, with the authority in OSPREY_TEST_CA.
'use strict'

const { once } = require('events')
const fs = require('fs')
const { pipeline } = require('stream/promises')
const { Client, Pool, Query } = require('pg')
const Cursor = require('pg-cursor')
const { from, to } = require('pg-copy-streams')

const tls = {
  disable: () => false,
  require: () => ({ rejectUnauthorized: false }),
  'verify-full': () => ({ ca: fs.readFileSync(process.env.OSPREY_TEST_CA) }),
}
const settings = {
  ssl: tls[process.env.OSPREY_TEST_TLS || 'disable'](),
  enableChannelBinding: Boolean(process.env.OSPREY_TEST_BINDING),
}

const print = (...values) => console.log(JSON.stringify(values))
const fields = (result) => result.fields.map((field) => [field.name, field.dataTypeID])

async function fails(promise) {
  try {
    print('no error', await promise)
  } catch (error) {
    print({ ...error, message: error.message })
  }
}

async function session() {
  const client = new Client(settings)
  client.on('notice', (notice) => print('notice', notice.message))
  await client.connect()
  for (const statement of JSON.parse(process.env.OSPREY_TEST_READS)) {
    const result = await client.query(statement)
    print(fields(result), result.rows)
    const array = await client.query({ text: statement, rowMode: 'array', queryMode: 'extended' })
    print(array.command, array.rowCount)
  }

  // Prepared once, run thrice.
  for (const id of [1, 2, 3]) {
    const values = [id]
    print(await client.query({ name: 'by id', text: 'SELECT * FROM salaries WHERE id = $1', values }))
  }
  const many = await client.query('SELECT 1 AS one; SELECT count(*) FROM salaries; SELECT 2 AS two')
  print(many.map((result) => result.rows))

  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT id, name FROM salaries WHERE id > $1', [900]))
  for (let rows = await cursor.read(33); rows.length > 0; rows = await cursor.read(33)) print(rows)
  await cursor.close()
  await client.query('SAVEPOINT s')
  await fails(client.query('SELECT 1 / (id - $1::int) FROM salaries', [1]))
  await fails(client.query('SELECT count(*) FROM salaries'))
  await client.query('ROLLBACK TO s')
  print((await client.query('INSERT INTO copied SELECT id, name, amount FROM salaries')).rowCount)
  await client.query('ROLLBACK')
  await fails(client.query('SELEC'))

  const lines = client.query(to('COPY (SELECT * FROM salaries) TO STDOUT'))
  let text = ''
  for await (const part of lines) text += part
  print(text)
  await client.query('TRUNCATE copied')
  await pipeline(['1\tone\t1.5\n', '2\ttwo\t\\N\n'], client.query(from('COPY copied FROM STDIN')))
  print((await client.query('SELECT * FROM copied ORDER BY id')).rows)

  const slow = client.query(new Query('SELECT pg_sleep(30), count(*) FROM salaries'))
  setTimeout(() => new Client(settings).cancel(client, slow), 300)
  await fails(once(slow, 'end'))

  await client.query("DO $$ BEGIN RAISE NOTICE 'noted'; END $$")
  const heard = new Promise((resolve) => client.on('notification', resolve))
  await client.query('LISTEN here')
  await client.query("NOTIFY here, 'payload'")
  const { channel, payload } = await heard
  print(channel, payload)
  await client.end()

  const other = new Client({ ...settings, pipeline: true })
  await other.connect()
  await pipelined(other)

  const pool = new Pool({ ...settings, max: 3 })
  const counts = Array.from({ length: 12 }, () => pool.query('SELECT count(*) FROM salaries'))
  print((await Promise.all(counts)).map((result) => result.rows))
  await pool.end()
}

// Statements that are sent without waiting for one another, each with its own Sync.
async function pipelined(client) {
  const read = 'SELECT name, 1 / (5 - $1::int) FROM salary_names WHERE id = $1'
  const answers = await Promise.allSettled([
    client.query('SELECT count(*) FROM people'),
    ...[1, 5, 9].map((id) => client.query(read, [id])),
    client.query('SELECT count(*) FROM salaries'),
  ])
  for (const { value, reason } of answers) print(value?.rows, reason?.message)
  await client.end()
}

async function login() {
  const client = new Client(settings)
  await client.connect()
  print((await client.query('SELECT current_user')).rows)
  await client.end()
}

const run = { session, login }[process.argv[2]]
run().catch((error) => {
  console.error(`${error.code} ${error.message}`)
  process.exit(1)
})
