//! The answers to the questions of Osprey's catalog reader, from what the simulator holds.

use super::data::Kind;
use super::parser::parse_view;
use super::question::Question;
use super::value::Value;
use super::world::World;

impl Question {
    /// The rows of the answer.
    pub(super) fn rows(self, world: &World) -> Vec<Vec<Value>> {
        let relations = world.relations.iter();
        match self {
            Self::ForeignTables => relations
                .filter_map(|relation| {
                    let Kind::Foreign { project, table, .. } = &relation.kind else {
                        return None;
                    };
                    let options = format!("{{project_name={project},table_name={table}}}");
                    let (schema, name) = (relation.schema, relation.name);
                    Some(vec![
                        Value::text(schema),
                        Value::text(name),
                        Value::Text(options),
                    ])
                })
                .collect(),
            Self::Edges => relations
                .filter_map(|relation| {
                    let Kind::View(sql) = relation.kind else {
                        return None;
                    };
                    let (schema, name) = parse_view(sql).ok()?.from?;
                    let schema = schema.unwrap_or_else(|| "public".to_owned());
                    Some(vec![
                        Value::text(relation.schema),
                        Value::text(relation.name),
                        Value::text("r"),
                        Value::text(schema),
                        Value::text(name),
                        Value::text("r"),
                        Value::text("f"),
                    ])
                })
                .collect(),
            Self::Bearers => relations
                .map(|relation| vec![Value::text(relation.schema), Value::text(relation.name)])
                .collect(),
            Self::Setting => vec![vec![Value::text("user"), Value::text("default")]],
            Self::VersionSchema => vec![vec![Value::text("pg_catalog")]],
        }
    }
}
