//! The tables of the console as the status page reads them.

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::tables;
use super::value::Value;
use super::world::View;
use crate::net::TcpNetwork;
use crate::session::Shared;

/// What the page shows. Sessions and clients are left out: they are people.
const SHOWN: &[&str] = &[
    "version",
    "upstreams",
    "databases",
    "tables",
    "keys",
    "lessons",
    "advice",
    "latency",
    "limits",
    "stats",
    "config",
];

/// Rows of one table that are shown; of the others their number.
const ROWS: usize = 500;

/// The tables as JSON: of each its name, what it is about, its columns, and rows of texts, numbers and
/// nulls.
pub(crate) fn status(shared: &Arc<Shared<TcpNetwork>>) -> Json {
    let view = View {
        shared: Arc::clone(shared),
    };
    let tables = SHOWN.iter().filter_map(|name| tables::named(name));
    let shown = tables.map(|table| {
        let rows = (table.rows)(&view);
        let more = rows.len().saturating_sub(ROWS);
        let columns = table.columns.iter();
        let rows = rows.into_iter().take(ROWS);
        json!({
            "name": table.name,
            "about": table.about,
            "columns": columns.map(|column| column.name).collect::<Vec<_>>(),
            "rows": rows.map(|row| row.into_iter().map(value).collect()).collect::<Vec<Vec<Json>>>(),
            "more": more,
        })
    });
    Json::Array(shown.collect())
}

fn value(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Text(text) => Json::String(text),
        Value::Int(number) => number.into(),
        // Neither infinite nor none: JSON has no word for these.
        Value::Float(number) => {
            serde_json::Number::from_f64(number).map_or(Json::Null, Json::Number)
        }
        Value::Bool(value) => value.into(),
    }
}
