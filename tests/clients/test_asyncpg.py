"""asyncpg: one session that does what asyncpg can, direct with the right setting and through Osprey, must
see the same; and each way to log in, with TLS and without."""

import asyncio
import io
import ssl

import asyncpg
import pytest

import harness
import tasks


class Undo(Exception):
    """Ends a block that is to be rolled back."""


def connect(endpoint, **changes):
    address = {"host": endpoint.host, "port": endpoint.port, "database": endpoint.dbname}
    login = {"user": endpoint.user, "password": endpoint.password}
    return asyncpg.connect(**{**address, **login, "ssl": False, "timeout": 30, **changes})


async def seen_by(endpoint, **changes):
    """Everything that the session is told."""
    seen = []

    async def failing(statement, *values):
        with pytest.raises(asyncpg.PostgresError) as caught:
            await connection.fetch(statement, *values)
        seen.append((type(caught.value), caught.value.as_dict()))

    connection = await connect(endpoint, **changes)
    seen.append((connection.get_server_version(), connection.get_settings().server_encoding))
    for statement, _ in tasks.READS.values():
        seen.append(await connection.fetch(statement))
    for bound in (3, 5):
        # The second time, from asyncpg's cache of prepared statements.
        seen.append(await connection.fetch("SELECT * FROM salaries WHERE id <= $1", bound))

    statement = await connection.prepare("SELECT name FROM salary_names WHERE id = $1")
    seen += [statement.get_attributes(), await statement.fetchval(7), await statement.fetch(8)]
    await connection.execute("TRUNCATE copied")
    await connection.executemany(
        "INSERT INTO copied SELECT id, name, amount FROM salaries WHERE id = $1",
        [(number,) for number in range(1, 40)],
    )
    await connection.copy_records_to_table("copied", records=[(0, "by COPY", None)])
    out = io.BytesIO()
    await connection.copy_from_query("SELECT * FROM salaries WHERE id <= $1", 9, output=out)
    seen += [out.getvalue(), await connection.fetch("SELECT * FROM copied ORDER BY id")]

    # A type that asyncpg must first ask for.
    await connection.execute("CREATE TYPE mood AS ENUM ('calm', 'curious')")
    seen.append(await connection.fetchval("SELECT ARRAY['calm', 'curious']::mood[]"))
    await connection.execute("DROP TYPE mood")

    async with connection.transaction():
        async for row in connection.cursor("SELECT id, name FROM salaries", prefetch=7):
            seen.append(row)
        try:
            async with connection.transaction():
                await failing("SELECT 1 / (id - 1) FROM salaries")
                await failing("SELECT count(*) FROM salaries")
                raise Undo
        except Undo:
            seen.append(await connection.fetchval("SELECT count(*) FROM salaries"))
    await failing("SELECT nothing FROM salaries WHERE id = $1", 1)
    await failing("SELEC 1")

    with pytest.raises(asyncio.TimeoutError):
        # asyncpg sends a cancel request.
        await connection.fetch("SELECT pg_sleep(30), count(*) FROM salaries", timeout=0.3)
    heard = asyncio.Queue()
    await connection.add_listener("here", lambda *message: heard.put_nowait(message[2:]))
    await connection.execute("NOTIFY here, 'payload'")
    seen.append(await asyncio.wait_for(heard.get(), 10))
    await connection.reset()
    seen.append(await connection.fetchval("SELECT count(*) FROM salaries"))
    await connection.close()
    return seen


def test_session(pair):
    direct, osprey = pair
    right = {"server_settings": {harness.ORC: "off"}}
    expected = asyncio.run(seen_by(direct, **right))
    assert len(expected) > 1000
    assert asyncio.run(seen_by(osprey)) == expected


@pytest.mark.parametrize("role", sorted(harness.ROLES))
@pytest.mark.parametrize("tls", [False, "require", "verify-full"])
def test_login(tls_cluster, tls_osprey, role, tls):
    async def log_in(**changes):
        how = ssl.create_default_context(cafile=tls_cluster.ca) if tls == "verify-full" else tls
        connection = await connect(endpoint, ssl=how, **changes)
        try:
            assert await connection.fetchval("SELECT current_user") == role
            if role != "osprey_catalog":
                assert await connection.fetchval("SELECT count(*) FROM salaries") == 1000
        finally:
            await connection.close()

    endpoint = tls_osprey.endpoint("tls", user=role)
    asyncio.run(log_in())
    if role != "app_trust":
        with pytest.raises(asyncpg.InvalidPasswordError):
            asyncio.run(log_in(password="wrong"))
