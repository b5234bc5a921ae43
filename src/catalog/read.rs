//! The questions that one reading asks, of the service account or of a borrowed session. Every name
//! and every operator is schema-qualified, so that nothing a user of the database creates, and no
//! search_path, can answer in the catalog's place. Joins on OIDs stay inside one statement:
//! Hologres' front ends number differently.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::ask::{Ask, Row, Unanswered, elements, literal};
use super::contents::{Contents, Sort};
use super::edges;
use super::error::ReadError;
use super::lineage::{self, Edge, ForeignTable, Node, Routine};
use super::roles;
use super::roles::RoleSetting;
use super::route::{CATALOG_ROUTING, ORC_VIA_HOLO, RouteSettings, boolean};
use super::version;
use super::version::HologresVersion;
use crate::sql;

/// A fresh session's search_path where nobody has said anything.
const DEFAULT_SEARCH_PATH: &str = "\"$user\", public";

/// To be followed by an array of the names of MaxCompute's foreign servers, and `)`.
const FOREIGN_TABLES: &str = "\
    SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
           t.ftoptions::pg_catalog.text \
      FROM pg_catalog.pg_foreign_table t \
      JOIN pg_catalog.pg_foreign_server s ON s.oid OPERATOR(pg_catalog.=) t.ftserver \
      JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) t.ftrelid \
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE s.srvname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (";

/// All functions of the database's own, and whether each is one in C that only computes (IMMUTABLE, which
/// nobody but a superuser can say of one in C): the text of a body in a language that is read here (what it
/// reads, PostgreSQL does not record), and the settings that the function brings along.
const ROUTINES: &str = "\
    SELECT n.nspname::pg_catalog.text, p.proname::pg_catalog.text, \
           l.lanname::pg_catalog.text, \
           CASE WHEN l.lanname OPERATOR(pg_catalog.=) ANY ('{sql,plpgsql}'::pg_catalog.name[]) \
                THEN p.prosrc END, \
           p.proconfig::pg_catalog.text, \
           p.provolatile OPERATOR(pg_catalog.=) 'i' \
           AND l.lanname OPERATOR(pg_catalog.=) ANY ('{c,internal}'::pg_catalog.name[]) \
      FROM pg_catalog.pg_proc p \
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
      JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang \
     WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' \
       AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema'";

/// All relations that bear a name that one leading to MaxCompute can have: a foreign table's, that
/// of one with a rule (each view has one) or a policy, or an inheritance or partition parent's. Other sessions'
/// temporary relations are nobody's homonyms.
const BEARERS: &str = "\
    SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
      FROM pg_catalog.pg_class c \
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
     WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,v,m,f,p}'::pg_catalog.\"char\"[]) \
       AND n.nspname OPERATOR(pg_catalog.!~) '^pg_(toast|temp_)' \
       AND c.relname OPERATOR(pg_catalog.=) ANY ( \
           SELECT b.relname FROM pg_catalog.pg_class b \
            WHERE b.relkind OPERATOR(pg_catalog.=) 'f' OR b.relhasrules OR b.relhassubclass \
               OR b.relrowsecurity)";

/// Which roles may not use a schema; PostgreSQL leaves it out of their search path
/// (`recomputeNamespacePath`). To be followed by an array of schemas, and `)`.
const BARRED: &str = "\
    SELECT r.rolname::pg_catalog.text, n.nspname::pg_catalog.text \
      FROM pg_catalog.pg_namespace n, pg_catalog.pg_roles r \
     WHERE NOT pg_catalog.has_schema_privilege(r.oid, n.oid, 'USAGE') \
       AND n.nspname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (";

/// The roles to which no policy applies.
const UNPOLICED: &str = "\
    SELECT r.rolname::pg_catalog.text FROM pg_catalog.pg_roles r \
     WHERE r.rolsuper OR r.rolbypassrls";

/// To be followed by the setting's name.
const SETTING: &str = "\
    SELECT s.context::pg_catalog.text, s.source::pg_catalog.text \
      FROM pg_catalog.pg_settings s WHERE s.name::pg_catalog.text OPERATOR(pg_catalog.=) ";

/// `hg_version()` outside `pg_catalog` is believed only if a superuser made it: nobody must run
/// what a user planted.
const VERSION_SCHEMA: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname::pg_catalog.text) \
      FROM pg_catalog.pg_proc p \
      JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
      JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) p.proowner \
     WHERE p.proname OPERATOR(pg_catalog.=) 'hg_version' \
       AND p.pronargs OPERATOR(pg_catalog.=) 0 \
       AND (o.rolsuper OR n.nspname OPERATOR(pg_catalog.=) 'pg_catalog') \
     ORDER BY n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' LIMIT 1";

/// What roles bring along: `setrole` 0 is all roles, `setdatabase` 0 all databases.
const ROLE_SETTINGS: &str = "\
    SELECT r.rolname::pg_catalog.text, s.setdatabase OPERATOR(pg_catalog.<>) 0, \
           s.setconfig::pg_catalog.text \
      FROM pg_catalog.pg_db_role_setting s \
      LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) s.setrole \
      LEFT JOIN pg_catalog.pg_database d ON d.oid OPERATOR(pg_catalog.=) s.setdatabase \
     WHERE (s.setdatabase OPERATOR(pg_catalog.=) 0 \
            OR d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()) \
       AND (s.setrole OPERATOR(pg_catalog.=) 0 OR r.rolname IS NOT NULL)";

/// Databases that people use and that this account may connect to.
const DATABASES: &str = "\
    SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d \
     WHERE d.datallowconn AND NOT d.datistemplate \
       AND pg_catalog.has_database_privilege(d.oid, 'CONNECT') \
     ORDER BY 1";

/// The databases that whoever answers may connect to.
pub(super) async fn databases(asked: &mut impl Ask) -> Result<Vec<String>, ReadError> {
    let rows = asked.ask(DATABASES).await?;
    Ok(rows.iter().map(|row| text(row, 0)).collect())
}

/// Asks all the questions of a reading. `servers` are the names of MaxCompute's foreign servers.
/// Nothing is set on the way; who lends a session for it sees to that session's settings.
pub(crate) async fn contents(
    asked: &mut impl Ask,
    servers: &[String],
) -> Result<Contents, ReadError> {
    let (role_settings, mut of_all) = role_settings(asked).await?;
    let search_path = match fresh_value(asked, "search_path").await? {
        Some((path, _)) if !path.is_empty() => path,
        // The value that SHOW gives is this session's own, or there is none to see. Then the others
        // will have what is set for them all.
        _ => of_all
            .remove("search_path")
            .unwrap_or_else(|| DEFAULT_SEARCH_PATH.to_owned()),
    };
    let mut contents = Contents {
        route: route(asked).await?,
        version: hologres_version(asked).await?,
        search_path,
        role_settings,
        ..Contents::default()
    };
    let foreign = foreign_tables(asked, servers).await?;
    if foreign.is_empty() {
        return Ok(contents);
    }
    let edges = edges(asked).await?;
    let routines = routines(asked).await?;
    let bearers = asked.ask(BEARERS).await?;
    let bearers: Vec<(String, String)> = bearers
        .iter()
        .map(|row| (text(row, 0), text(row, 1)))
        .collect();
    (contents.relations, contents.functions) =
        lineage::relations(foreign, &edges, &routines, &bearers);
    let mine: HashSet<(&str, &str)> = contents
        .relations
        .iter()
        .filter(|relation| relation.sort == Sort::Relation)
        .map(|relation| (relation.schema.as_str(), relation.name.as_str()))
        .collect();
    let names: HashSet<&str> = mine.iter().map(|(_, name)| *name).collect();
    let homonyms = bearers
        .iter()
        .filter(|(schema, name)| names.contains(&**name) && !mine.contains(&(&**schema, &**name)))
        .cloned()
        .collect();
    contents.homonyms = homonyms;
    contents.readers = lineage::readers(edges, &contents.relations);
    contents.barred = barred(asked, &contents).await?;
    if contents.relations.iter().any(|relation| relation.policed) {
        let rows = ask_if_allowed(asked, UNPOLICED).await?;
        contents.unpoliced = rows.iter().map(|row| text(row, 0)).collect();
    }
    Ok(contents)
}

/// Who may not use which schema, of those where that decides what a name means.
async fn barred(
    asked: &mut impl Ask,
    contents: &Contents,
) -> Result<Vec<(String, String)>, ReadError> {
    let relations = contents.relations.iter();
    let relations = relations.filter(|relation| relation.sort == Sort::Relation);
    let relations = relations.map(|relation| (&relation.schema, &relation.name));
    let homonyms = contents
        .homonyms
        .iter()
        .map(|(schema, name)| (schema, name));
    let mut of_name: HashMap<&String, Vec<&String>> = HashMap::new();
    for (schema, name) in relations.chain(homonyms) {
        of_name.entry(name).or_default().push(schema);
    }
    let several = of_name.into_values().filter(|schemas| schemas.len() > 1);
    let schemas: BTreeSet<&String> = several.flatten().collect();
    if schemas.is_empty() {
        return Ok(Vec::new());
    }
    let schemas: Vec<String> = schemas.into_iter().map(|schema| literal(schema)).collect();
    let schemas = schemas.join(", ");
    let question = format!("{BARRED}ARRAY[{schemas}]::pg_catalog.text[])");
    let rows = ask_if_allowed(asked, &question).await?;
    Ok(rows
        .iter()
        .map(|row| (text(row, 0), text(row, 1)))
        .collect())
}

/// The answer, or nothing if the server says that there is none for who asks: not everyone may see
/// everything, and the rest is still true. Any other error (a timeout, a character that the session's
/// encoding does not have) says nothing about what is there, and fails the reading.
async fn ask_if_allowed(asked: &mut impl Ask, statement: &str) -> Result<Vec<Row>, ReadError> {
    match asked.ask(statement).await {
        Err(Unanswered::None(_)) => Ok(Vec::new()),
        answer => Ok(answer?),
    }
}

async fn role_settings(
    asked: &mut impl Ask,
) -> Result<(Vec<RoleSetting>, BTreeMap<String, String>), ReadError> {
    let rows = ask_if_allowed(asked, ROLE_SETTINGS).await?;
    let rows = rows.iter().map(|row| roles::Row {
        role: row.first().cloned().flatten(),
        here_only: text(row, 1) == "t",
        settings: elements(&text(row, 2)),
    });
    let [old, new] = ORC_VIA_HOLO;
    Ok(roles::resolve(
        rows.collect(),
        &["search_path", "role", old, new, CATALOG_ROUTING],
    ))
}

async fn foreign_tables(
    asked: &mut impl Ask,
    servers: &[String],
) -> Result<Vec<ForeignTable>, ReadError> {
    let servers: Vec<String> = servers.iter().map(|server| literal(server)).collect();
    let servers = servers.join(", ");
    let question = format!("{FOREIGN_TABLES}ARRAY[{servers}]::pg_catalog.text[])");
    let rows = asked.ask(&question).await?;
    let tables = rows.iter().map(|row| {
        let options = elements(&text(row, 2));
        let project = options.iter().find_map(|option| {
            let (name, value) = option.split_once('=')?;
            (name == "project_name").then(|| value.to_owned())
        });
        ForeignTable {
            name: Node {
                schema: text(row, 0),
                name: text(row, 1),
                sort: Sort::Relation,
            },
            project,
        }
    });
    Ok(tables.collect())
}

async fn edges(asked: &mut impl Ask) -> Result<Vec<Edge>, ReadError> {
    let rows = asked.ask(&edges::question()).await?;
    let name = |row: &Row, first: usize| Node {
        schema: text(row, first),
        name: text(row, first + 1),
        sort: sort(&text(row, first + 2)),
    };
    let edges = rows.iter().map(|row| Edge {
        reader: name(row, 0),
        read: name(row, 3),
        inherited: text(row, 6) == "i",
        policed: text(row, 6) == "p",
    });
    Ok(edges.collect())
}

fn sort(letter: &str) -> Sort {
    match letter {
        "f" => Sort::Function,
        "w" => Sort::Written,
        _ => Sort::Relation,
    }
}

async fn routines(asked: &mut impl Ask) -> Result<Vec<Routine>, ReadError> {
    let rows = ask_if_allowed(asked, ROUTINES).await?;
    let routines = rows.iter().map(|row| {
        let source = text(row, 3);
        // A body that PostgreSQL has parsed has no text; what it reads is among the edges.
        let body = if text(row, 5) == "t" {
            Some(sql::Body::computes())
        } else if source.is_empty() {
            None
        } else {
            sql::read_body(&source, &text(row, 2))
        };
        Routine {
            function: Node {
                schema: text(row, 0),
                name: text(row, 1),
                sort: Sort::Function,
            },
            path: own_search_path(&elements(&text(row, 4))),
            body,
        }
    });
    Ok(routines.collect())
}

/// The search path among a function's settings; `None`: it has none, or one that depends on who calls
/// it.
fn own_search_path(settings: &[String]) -> Option<Vec<String>> {
    let path = settings
        .iter()
        .find_map(|setting| setting.strip_prefix("search_path="))?;
    let path = sql::search_path(path)?;
    let depends = path.iter().any(|schema| schema == "$user");
    (!depends).then_some(path)
}

async fn route(asked: &mut impl Ask) -> Result<RouteSettings, ReadError> {
    let mut route = RouteSettings {
        catalog_routing: fresh_value(asked, CATALOG_ROUTING)
            .await?
            .map(|(text, _)| text),
        ..RouteSettings::default()
    };
    for name in ORC_VIA_HOLO {
        if let Some((text, anyone)) = fresh_value(asked, name).await? {
            route.orc_via_holo = boolean(&text);
            route.user_may_set = anyone;
            break;
        }
    }
    Ok(route)
}

/// A setting's value in a fresh session, and whether any user may set it; `None` if the server does
/// not know the setting. A value that only this session or its own role has (ALTER ROLE … SET, the
/// startup packet) says nothing about others and is answered as an empty text.
async fn fresh_value(
    asked: &mut impl Ask,
    name: &str,
) -> Result<Option<(String, bool)>, ReadError> {
    let answer = ask_if_allowed(asked, &format!("SHOW {name}")).await?;
    let Some(value) = first_value(&answer) else {
        return Ok(None);
    };
    let rows = asked.ask(&format!("{SETTING}{}", literal(name))).await?;
    let Some(row) = rows.first() else {
        return Ok(Some((value, false)));
    };
    let own = matches!(
        &*text(row, 1),
        "user" | "database user" | "client" | "session"
    );
    let value = if own { String::new() } else { value };
    Ok(Some((value, text(row, 0) == "user")))
}

async fn hologres_version(asked: &mut impl Ask) -> Result<Option<HologresVersion>, ReadError> {
    let schema = asked.ask(VERSION_SCHEMA).await?;
    let Some(schema) = first_value(&schema) else {
        return Ok(None);
    };
    // This role may not be allowed to call it, or a fixed front end may not run it.
    let answer = ask_if_allowed(asked, &format!("SELECT {schema}.hg_version()")).await?;
    Ok(first_value(&answer).and_then(|text| version::parse(&text)))
}

fn first_value(rows: &[Row]) -> Option<String> {
    rows.first()?.first()?.clone()
}

/// A column's text; empty for NULL and for a column that is not there.
fn text(row: &Row, column: usize) -> String {
    row.get(column).cloned().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with one foreign table, which answers the question about functions with this error.
    struct Refusing(&'static str);

    impl Ask for Refusing {
        async fn ask(&mut self, statement: &str) -> Result<Vec<Row>, Unanswered> {
            if statement == ROUTINES {
                return Err(Unanswered::said(self.0, "it says why"));
            }
            let table = ["public", "orders", "{project_name=sales}"];
            let table = table.map(|text| Some(text.to_owned())).to_vec();
            let is_asked = statement.starts_with(FOREIGN_TABLES);
            Ok(is_asked.then_some(table).into_iter().collect())
        }
    }

    #[tokio::test]
    async fn only_an_answer_that_there_is_none_is_one() {
        let read = async |sqlstate| contents(&mut Refusing(sqlstate), &[]).await;
        for none in ["42501", "42704", "42883", "42P01", "0A000"] {
            let contents = read(none).await.expect("a reading of all that there is");
            assert_eq!(contents.relations.len(), 1, "{none}");
        }
        for other in ["57014", "22P05", "53200", "XX000", "55P03", "42601"] {
            let error = read(other).await.expect_err("half a reading");
            assert!(error.reason.contains(other), "{error}");
        }
    }
}
