"""hologres-dataframe: reads encrypted data as it reads any table, and on serverless resources; prints what it got."""

import os

import hologres.dataframe as hg

with hg.connect(
    host=os.environ["PGHOST"],
    port=int(os.environ["PGPORT"]),
    dbname=os.environ["PGDATABASE"],
    user=os.environ["PGUSER"],
    password=os.environ["PGPASSWORD"],
) as session:
    print("version", session.server_version(), session.current_schema())
    session.use_schema("public")
    salaries = session.table("public.salaries")
    print("types", [(field.name, str(field.datatype)) for field in salaries.schema.fields])
    few = salaries.filter(hg.col("id") <= 3).select("id", "name").sort("id")
    # From the sixth time on psycopg has prepared what stands around the query, too.
    for _ in range(8):
        print(few.collect(), few.count())
    print(salaries.join(session.table("public.people"), on="id").count())
    print(session.sql("SELECT count(*) AS number FROM salary_names").collect())
    print(few.serverless(priority=3).collect())
    written = session.from_records([{"id": 9, "note": "nine"}])
    written.write("public.holo_rows")
    print(session.sql("SELECT * FROM holo_rows").collect())
