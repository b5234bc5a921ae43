//! The question who reads whom in a database, put together of one piece for each kind of reader.

/// The catalog that names one end of an edge.
struct End {
    catalog: &'static str,
    name: &'static str,
    namespace: &'static str,
    /// Its letter in the answer, as SQL spells it.
    sort: &'static str,
}

const RELATION: End = End {
    catalog: "pg_class",
    name: "relname",
    namespace: "relnamespace",
    sort: "'r'",
};
const FUNCTION: End = End {
    catalog: "pg_proc",
    name: "proname",
    namespace: "pronamespace",
    sort: "'f'",
};

/// Who reads whom, and whether as a parent (`i`) or by a policy (`p`); `r`: a relation that is read, `w`: one
/// that is written, `f`: a function. The rewrite rules that make views; other rules, and materialized views,
/// whose relation reads when it is written; functions with a body that PostgreSQL has parsed; inheritance and
/// partition parents, which read their children; the functions of defaults, checks and triggers, which run
/// when their table is written; and what policies read, whenever their table is. Dependencies on what
/// PostgreSQL itself brings are not recorded.
pub(super) fn question() -> String {
    let of_rule = "CASE WHEN o.ev_type OPERATOR(pg_catalog.=) '1' \
                    AND w.relkind OPERATOR(pg_catalog.<>) 'm' THEN 'r' ELSE 'w' END";
    let rule = (&RELATION, "o.ev_class", of_rule);
    let others = "AND w.oid OPERATOR(pg_catalog.<>) r.oid";
    let the_databases_own = "AND reader.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
                             AND reader.nspname OPERATOR(pg_catalog.<>) 'information_schema' \
                             GROUP BY 1, 2, 3, 4, 5";
    let of_rules = format!("{others} {the_databases_own}");
    let function = (&FUNCTION, "d.objid", FUNCTION.sort);
    let policy = (&RELATION, "o.polrelid", "s.sort");
    let both = "CROSS JOIN (VALUES ('r'), ('w')) s (sort)";
    let parents = "w.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog.\"char\"[])";
    let edges = [
        dependency("pg_rewrite", OBJECT, rule, &RELATION, &of_rules),
        dependency("pg_rewrite", OBJECT, rule, &FUNCTION, ""),
        dependency("pg_proc", "", function, &RELATION, ""),
        dependency("pg_proc", "", function, &FUNCTION, ""),
        edge(
            "pg_catalog.pg_inherits i",
            (&RELATION, "i.inhparent", RELATION.sort),
            (&RELATION, "i.inhrelid"),
            "'i'",
            parents,
        ),
        dependency("pg_attrdef", OBJECT, written("o.adrelid"), &FUNCTION, ""),
        dependency(
            "pg_constraint",
            OBJECT,
            written("o.conrelid"),
            &FUNCTION,
            "",
        ),
        edge(
            "pg_catalog.pg_trigger t",
            written("t.tgrelid"),
            (&FUNCTION, "t.tgfoid"),
            "''",
            "NOT t.tgisinternal",
        ),
        dependency(
            "pg_policy",
            &format!("{OBJECT} {both}"),
            policy,
            &RELATION,
            others,
        ),
        dependency(
            "pg_policy",
            &format!("{OBJECT} {both}"),
            policy,
            &FUNCTION,
            "",
        ),
    ];
    edges.join(" UNION ALL ")
}

/// To be joined for what the object belongs to that depends; `{class}` is its catalog.
const OBJECT: &str = "JOIN pg_catalog.{class} o ON o.oid OPERATOR(pg_catalog.=) d.objid";

/// A relation that reads when it is written.
fn written(id: &'static str) -> (&'static End, &'static str, &'static str) {
    (&RELATION, id, "'w'")
}

/// Edges that `pg_depend` has: an object of a class, which `joined` finds, depends on what is read.
fn dependency(
    class: &str,
    joined: &str,
    reader: (&End, &str, &str),
    read: &End,
    and: &str,
) -> String {
    let from = format!(
        "pg_catalog.pg_depend d {}",
        joined.replace("{class}", class)
    );
    let condition = format!(
        "d.classid OPERATOR(pg_catalog.=) 'pg_catalog.{class}'::pg_catalog.regclass \
         AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.{}'::pg_catalog.regclass {and}",
        read.catalog
    );
    let way = if class == "pg_policy" { "'p'" } else { "''" };
    edge(&from, reader, (read, "d.refobjid"), way, &condition)
}

/// The edges from one kind of reader to one kind of what is read, `w` to `r`. A reader comes with its OID and
/// its letter, what is read with its OID. `way`: how it reads, a letter as SQL spells it.
fn edge(
    from: &str,
    (reader, reader_id, sort): (&End, &str, &str),
    (read, read_id): (&End, &str),
    way: &str,
    condition: &str,
) -> String {
    format!(
        "SELECT reader.nspname::pg_catalog.text, w.{}::pg_catalog.text, {sort}, \
                target.nspname::pg_catalog.text, r.{}::pg_catalog.text, {}, {way} \
           FROM {from} \
           JOIN pg_catalog.{} w ON w.oid OPERATOR(pg_catalog.=) {reader_id} \
           JOIN pg_catalog.pg_namespace reader ON reader.oid OPERATOR(pg_catalog.=) w.{} \
           JOIN pg_catalog.{} r ON r.oid OPERATOR(pg_catalog.=) {read_id} \
           JOIN pg_catalog.pg_namespace target ON target.oid OPERATOR(pg_catalog.=) r.{} \
          WHERE {condition}",
        reader.name,
        read.name,
        read.sort,
        reader.catalog,
        reader.namespace,
        read.catalog,
        read.namespace
    )
}
