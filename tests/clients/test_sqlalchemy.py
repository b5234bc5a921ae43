"""SQLAlchemy, over psycopg2 and over asyncpg: what it finds in the catalogs, and reads with it, is the
same through Osprey and direct."""

import asyncio

import pytest
import sqlalchemy
import sqlalchemy.ext.asyncio
import sqlalchemy.orm

import harness

# Direct, the route is right from the start.
RIGHT = {
    "psycopg2": {"options": f"-c {harness.ORC}=off"},
    "asyncpg": {"server_settings": {harness.ORC: "off"}},
}


def described(connection):
    """Everything that the inspector tells of the database."""
    inspector = sqlalchemy.inspect(connection)
    seen = []
    for schema in inspector.get_schema_names():
        if schema == "information_schema":
            continue
        foreign = inspector.get_foreign_table_names(schema)
        views = inspector.get_view_names(schema)
        seen += [schema, foreign, views, inspector.get_enums(schema)]
        seen += [inspector.get_view_definition(view, schema) for view in views]
        for table in inspector.get_table_names(schema) + foreign + views:
            seen.append(table)
            seen += [repr(inspector.get_columns(table, schema))]
            seen += [inspector.get_pk_constraint(table, schema)]
            seen += [inspector.get_foreign_keys(table, schema)]
            seen += [inspector.get_indexes(table, schema)]
            seen += [inspector.get_check_constraints(table, schema)]
            seen += [inspector.get_table_comment(table, schema)]
    return seen


def session(connection):
    """Reads, by means of what was reflected, from plain and encrypted tables."""
    seen = described(connection)
    tables = sqlalchemy.MetaData()
    tables.reflect(connection, views=True)
    salaries = sqlalchemy.Table("salaries", tables, autoload_with=connection)
    quoted = sqlalchemy.Table(
        'The "Salaries"', tables, schema="Mixed Case", autoload_with=connection
    )
    people, copied = tables.tables["people"], tables.tables["copied"]
    names = tables.tables["salary_names"]
    for table in (salaries, quoted, people, names):
        seen += connection.execute(sqlalchemy.select(table).order_by(table.c.id)).all()
    joined = sqlalchemy.select(people.c.team, salaries.c.name).join(
        salaries, people.c.id == salaries.c.id
    )
    seen += connection.execute(joined.order_by(salaries.c.id).limit(10)).all()

    with pytest.raises(sqlalchemy.exc.DBAPIError) as caught, connection.begin_nested():
        connection.execute(sqlalchemy.select(1 / (salaries.c.id - 1))).all()
    seen.append(str(caught.value.orig))
    source = sqlalchemy.select(salaries.c.id, salaries.c.name, salaries.c.amount)
    connection.execute(copied.insert().from_select(["id", "name", "amount"], source))
    connection.execute(copied.insert(), [{"id": -number} for number in range(1, 30)])
    with sqlalchemy.orm.Session(connection) as unit:
        seen += unit.query(copied).filter(copied.c.id < 40).order_by(copied.c.id).all()
    connection.rollback()
    seen.append(connection.execute(sqlalchemy.select(sqlalchemy.func.count(copied.c.id))).all())
    return seen


def seen_by(endpoint, driver, arguments):
    address = sqlalchemy.engine.URL.create(
        f"postgresql+{driver}",
        endpoint.user,
        endpoint.password,
        endpoint.host,
        endpoint.port,
        endpoint.dbname,
    )
    if driver == "psycopg2":
        engine = sqlalchemy.create_engine(address, connect_args=arguments, future=True)
        with engine.connect() as connection:
            seen = session(connection)
            streamed = connection.execution_options(stream_results=True, max_row_buffer=7)
            seen += streamed.execute(sqlalchemy.text("SELECT * FROM salaries")).all()
        engine.dispose()
        return seen

    async def run():
        engine = sqlalchemy.ext.asyncio.create_async_engine(address, connect_args=arguments)
        async with engine.connect() as connection:
            seen = await connection.run_sync(session)
            async for row in await connection.stream(sqlalchemy.text("SELECT * FROM salaries")):
                seen.append(row)
        await engine.dispose()
        return seen

    return asyncio.run(run())


@pytest.mark.parametrize("driver", sorted(RIGHT))
def test_session(pair, driver):
    direct, osprey = pair
    expected = seen_by(direct, driver, RIGHT[driver])
    assert len(expected) > 3000
    assert seen_by(osprey, driver, {}) == expected
