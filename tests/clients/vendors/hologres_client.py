"""hologres-client: writes a table, reads it again, reads encrypted data; prints what it got."""

import json
import os

from hologres import CopyMode, Get, HoloClient, HoloConfig, Put

config = HoloConfig(
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    database=os.environ["PGDATABASE"],
    username=os.environ["PGUSER"],
    password=os.environ["PGPASSWORD"],
    write_parallelism=1,
    read_parallelism=1,
    use_fixed_fe=os.environ["OSPREY_TEST_FIXED"] == "yes",
    enable_generate_binlog=False,
    retry_count=1,
)
READS = [
    "SELECT id, name FROM salaries WHERE id <= 3 ORDER BY id",
    "SELECT count(*) FROM salary_names",
    "SELECT count(*) FROM people",
    "SHOW application_name",
]


def put(schema, number):
    row = Put(schema)
    row.set_object("id", number)
    row.set_object("note", f"note {number}")
    return row


with HoloClient(config) as client:
    schema = client.get_table_schema("holo_rows")
    for number in range(5):
        client.put(put(schema, number))
    client.flush()
    found = client.get(Get.builder(schema).set_primary_key("id", 3).build())
    print("got", found.get_object("note"))
    print("version", client.get_holo_version(), client.table_exists("holo_rows"), client.table_exists("no"))
    for statement in READS * 2:
        print(json.dumps(client.sql(lambda connection: connection.execute(statement).fetchall()), default=str))
    with client.copy_writer("holo_rows", mode=CopyMode.STREAM) as writer:
        writer.write_many([put(schema, number) for number in range(7, 9)])
    print(client.sql(lambda connection: connection.execute("SELECT * FROM holo_rows ORDER BY id").fetchall()))
