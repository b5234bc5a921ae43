//! The questions that one reading asks. Every name is schema-qualified and `search_path` is
//! `pg_catalog` alone, so that nothing a user of the database creates can answer in the catalog's
//! place. Joins on OIDs stay inside one statement: Hologres' front ends number differently.

use std::collections::{BTreeMap, HashSet};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::lineage::{self, ForeignTable, Name};
use super::roles::{self, Row};
use super::{
    CATALOG_ROUTING, Contents, HologresVersion, ORC_VIA_HOLO, RoleSetting, RouteSettings, boolean,
    version,
};

/// The longest one of the questions may take.
const STATEMENT_TIMEOUT: &str = "60s";

/// A fresh session's search_path where nobody has said anything.
const DEFAULT_SEARCH_PATH: &str = "\"$user\", public";

/// `$1`: names of MaxCompute's foreign servers.
const FOREIGN_TABLES: &str = "\
    SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
           t.ftoptions::pg_catalog.text[] \
      FROM pg_catalog.pg_foreign_table t \
      JOIN pg_catalog.pg_foreign_server s ON s.oid = t.ftserver \
      JOIN pg_catalog.pg_class c ON c.oid = t.ftrelid \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE s.srvname::pg_catalog.text = ANY ($1)";

/// Who reads whom: the rewrite rules that make views, materialized views and rules, and
/// inheritance and partition parents, which read their children.
const EDGES: &str = "\
    SELECT reader.nspname::pg_catalog.text, w.relname::pg_catalog.text, \
           target.nspname::pg_catalog.text, r.relname::pg_catalog.text \
      FROM pg_catalog.pg_depend d \
      JOIN pg_catalog.pg_rewrite rule ON rule.oid = d.objid \
      JOIN pg_catalog.pg_class w ON w.oid = rule.ev_class \
      JOIN pg_catalog.pg_namespace reader ON reader.oid = w.relnamespace \
      JOIN pg_catalog.pg_class r ON r.oid = d.refobjid \
      JOIN pg_catalog.pg_namespace target ON target.oid = r.relnamespace \
     WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
       AND w.oid <> r.oid \
       AND reader.nspname NOT IN ('pg_catalog', 'information_schema') \
     GROUP BY 1, 2, 3, 4 \
     UNION ALL \
    SELECT reader.nspname::pg_catalog.text, w.relname::pg_catalog.text, \
           target.nspname::pg_catalog.text, r.relname::pg_catalog.text \
      FROM pg_catalog.pg_inherits i \
      JOIN pg_catalog.pg_class w ON w.oid = i.inhparent \
      JOIN pg_catalog.pg_namespace reader ON reader.oid = w.relnamespace \
      JOIN pg_catalog.pg_class r ON r.oid = i.inhrelid \
      JOIN pg_catalog.pg_namespace target ON target.oid = r.relnamespace \
     WHERE w.relkind IN ('r', 'p', 'f')";

/// `$1`: the names of interest. Other sessions' temporary relations are nobody's homonyms.
const BEARERS: &str = "\
    SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text \
      FROM pg_catalog.pg_class c \
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') \
       AND n.nspname !~ '^pg_(toast|temp_)' \
       AND c.relname::pg_catalog.text IN (SELECT pg_catalog.unnest($1))";

/// `$1`: the setting's name.
const SETTING: &str = "\
    SELECT s.context::pg_catalog.text, s.source::pg_catalog.text \
      FROM pg_catalog.pg_settings s WHERE s.name = $1";

/// `hg_version()` outside `pg_catalog` is believed only if a superuser made it: the service account
/// must not run what a user planted.
const VERSION_SCHEMA: &str = "\
    SELECT pg_catalog.quote_ident(n.nspname) \
      FROM pg_catalog.pg_proc p \
      JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
      JOIN pg_catalog.pg_roles o ON o.oid = p.proowner \
     WHERE p.proname = 'hg_version' AND p.pronargs = 0 \
       AND (o.rolsuper OR n.nspname = 'pg_catalog') \
     ORDER BY n.nspname <> 'pg_catalog' LIMIT 1";

/// What roles bring along: `setrole` 0 is all roles, `setdatabase` 0 all databases.
const ROLE_SETTINGS: &str = "\
    SELECT r.rolname::pg_catalog.text, s.setdatabase <> 0, s.setconfig::pg_catalog.text[] \
      FROM pg_catalog.pg_db_role_setting s \
      LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole \
      LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
     WHERE (s.setdatabase = 0 OR d.datname = pg_catalog.current_database()) \
       AND (s.setrole = 0 OR r.rolname IS NOT NULL)";

/// Databases that people use and that this account may connect to.
const DATABASES: &str = "\
    SELECT d.datname::pg_catalog.text FROM pg_catalog.pg_database d \
     WHERE d.datallowconn AND NOT d.datistemplate \
       AND pg_catalog.has_database_privilege(d.oid, 'CONNECT') \
     ORDER BY 1";

/// The databases that this account may connect to.
pub(super) async fn databases(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client.query_typed(DATABASES, &[]).await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Asks everything, as `user`.
pub(super) async fn contents(
    client: &Client,
    user: &str,
    servers: &[String],
) -> Result<Contents, Error> {
    // What a fresh session has is asked before anything is set.
    let mut search_path = show(client, "search_path").await?.unwrap_or_default();
    client.batch_execute("SET search_path = pg_catalog").await?;
    client
        .batch_execute(&format!("SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        .await?;
    let (role_settings, mut of_all) = role_settings(client).await?;
    if role_settings
        .iter()
        .any(|own| own.role == user && own.name == "search_path")
    {
        let others = of_all.remove("search_path");
        search_path = others.unwrap_or_else(|| DEFAULT_SEARCH_PATH.to_owned());
    }
    let route = route(client).await?;
    let version = hologres_version(client).await?;

    let foreign = foreign_tables(client, servers).await?;
    if foreign.is_empty() {
        return Ok(Contents {
            route,
            version,
            search_path,
            role_settings,
            ..Contents::default()
        });
    }
    let relations = lineage::relations(foreign, &edges(client).await?);
    let mine: HashSet<(&str, &str)> = relations
        .iter()
        .map(|relation| (relation.schema.as_str(), relation.name.as_str()))
        .collect();
    let names: Vec<&str> = relations
        .iter()
        .map(|relation| relation.name.as_str())
        .collect();
    let mut homonyms = pairs(client, BEARERS, &names).await?;
    homonyms.retain(|(schema, name)| !mine.contains(&(schema, name)));
    Ok(Contents {
        relations,
        homonyms,
        route,
        version,
        search_path,
        role_settings,
    })
}

async fn role_settings(
    client: &Client,
) -> Result<(Vec<RoleSetting>, BTreeMap<String, String>), Error> {
    let answer = match client.query_typed(ROLE_SETTINGS, &[]).await {
        // Not every account may see them; then no role is known to bring anything along.
        Err(error) if error.as_db_error().is_some() => Vec::new(),
        answer => answer?,
    };
    let rows: Result<Vec<Row>, Error> = answer
        .iter()
        .map(|row| {
            let settings: Option<Vec<String>> = row.try_get(2)?;
            Ok(Row {
                role: row.try_get(0)?,
                here_only: row.try_get(1)?,
                settings: settings.unwrap_or_default(),
            })
        })
        .collect();
    let [old, new] = ORC_VIA_HOLO;
    Ok(roles::resolve(
        rows?,
        &["search_path", old, new, CATALOG_ROUTING],
    ))
}

async fn foreign_tables(client: &Client, servers: &[String]) -> Result<Vec<ForeignTable>, Error> {
    let rows = client
        .query_typed(FOREIGN_TABLES, &[(&servers, Type::TEXT_ARRAY)])
        .await?;
    rows.iter()
        .map(|row| {
            let options: Option<Vec<String>> = row.try_get(2)?;
            let project = options
                .unwrap_or_default()
                .into_iter()
                .find_map(|option| option.strip_prefix("project_name=").map(ToOwned::to_owned));
            Ok(ForeignTable {
                name: (row.try_get(0)?, row.try_get(1)?),
                project,
            })
        })
        .collect()
}

async fn edges(client: &Client) -> Result<Vec<(Name, Name)>, Error> {
    let rows = client.query_typed(EDGES, &[]).await?;
    rows.iter()
        .map(|row| {
            let reader = (row.try_get(0)?, row.try_get(1)?);
            Ok((reader, (row.try_get(2)?, row.try_get(3)?)))
        })
        .collect()
}

async fn pairs(client: &Client, question: &str, names: &[&str]) -> Result<Vec<Name>, Error> {
    let rows = client
        .query_typed(question, &[(&names, Type::TEXT_ARRAY)])
        .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
        .collect()
}

async fn route(client: &Client) -> Result<RouteSettings, Error> {
    let mut route = RouteSettings {
        catalog_routing: fresh_value(client, CATALOG_ROUTING)
            .await?
            .map(|(text, _)| text),
        ..RouteSettings::default()
    };
    for name in ORC_VIA_HOLO {
        if let Some((text, anyone)) = fresh_value(client, name).await? {
            route.orc_via_holo = boolean(&text);
            route.user_may_set = anyone;
            break;
        }
    }
    Ok(route)
}

/// A setting's value in a fresh session, and whether any user may set it. A value that only the
/// service account's own role has (ALTER ROLE … SET) says nothing about others and is answered as
/// an empty text.
async fn fresh_value(client: &Client, name: &str) -> Result<Option<(String, bool)>, Error> {
    let Some(value) = show(client, name).await? else {
        return Ok(None);
    };
    let row = client
        .query_typed_opt(SETTING, &[(&name, Type::TEXT)])
        .await?;
    let Some(row) = row else {
        return Ok(Some((value, false)));
    };
    let (context, source): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let value = if matches!(source.as_str(), "user" | "database user") {
        String::new()
    } else {
        value
    };
    Ok(Some((value, context == "user")))
}

/// `SHOW name`; `None` if the server does not know the setting.
async fn show(client: &Client, name: &str) -> Result<Option<String>, Error> {
    let messages = match client.simple_query(&format!("SHOW {name}")).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_OBJECT) => return Ok(None),
        answer => answer?,
    };
    Ok(first_value(&messages))
}

async fn hologres_version(client: &Client) -> Result<Option<HologresVersion>, Error> {
    let schema = client.query_typed_opt(VERSION_SCHEMA, &[]).await?;
    let Some(schema) = schema else {
        return Ok(None);
    };
    let schema: String = schema.try_get(0)?;
    match client
        .simple_query(&format!("SELECT {schema}.hg_version()"))
        .await
    {
        Ok(messages) => Ok(first_value(&messages).and_then(|text| version::parse(&text))),
        // It may be refused to this account, or to a fixed front end; the rest is still true.
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

fn first_value(messages: &[SimpleQueryMessage]) -> Option<String> {
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(ToOwned::to_owned),
        _ => None,
    })
}
