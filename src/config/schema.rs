//! The JSON schema of the configuration file: made by the walk that reads files, of everything that it
//! looks for, with what `config/osprey.toml` says of each key. Editors show it as one types.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::draft::Draft;
use super::file;
use super::reader::{Asked, Shape};
use super::source::Sources;
use super::values;

/// Every setting with its meaning and its default.
const REFERENCE: &str = include_str!("../../config/osprey.toml");
/// What lines of the reference begin with that are no comments.
const MARKS: [&str; 3] = ["#= ", "#e.g. ", "#or: "];

/// The schema, in the form that TOML editors take (draft 7).
pub fn schema() -> Value {
    let mut draft = Draft::new();
    let asked = file::take(&Sources::default(), &mut draft);
    let mut root = section("", &asked, &Reference::read());
    root.insert(
        "$schema".into(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    root.insert("title".into(), json!("Osprey's configuration file"));
    Value::Object(root)
}

/// A table with the keys below `path`.
fn section(path: &str, asked: &Asked, reference: &Reference) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, shape) in &asked.shapes {
        let (parent, key) = name.rsplit_once('.').unwrap_or(("", name));
        if parent != path {
            continue;
        }
        let mut value = match shape {
            Shape::Section | Shape::Sections | Shape::SectionOrSections => {
                let table = section(name, asked, reference);
                sections(shape, table)
            }
            simple => of_value(simple),
        };
        reference.explain(name, &mut value);
        properties.insert(key.to_owned(), Value::Object(value));
        if asked.required.contains(name) {
            required.push(key);
        }
    }
    let mut table = object(json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    }));
    if !required.is_empty() {
        table.insert("required".into(), json!(required));
    }
    table
}

fn sections(shape: &Shape, table: Map<String, Value>) -> Map<String, Value> {
    let one = || Value::Object(table.clone());
    match shape {
        Shape::Sections => object(json!({"type": "array", "items": one()})),
        Shape::SectionOrSections => {
            let mut alone = table.clone();
            // What names it among several.
            alone.remove("required");
            object(json!({"oneOf": [alone, {"type": "array", "items": one()}]}))
        }
        _ => table,
    }
}

fn of_value(shape: &Shape) -> Map<String, Value> {
    let with_unit = |units: &[&str], or: &str| {
        let units = units.join("|");
        json!({"type": "string", "pattern": format!("^\\s*([0-9]+\\s*({units}){or})\\s*$")})
    };
    object(match shape {
        Shape::Duration => with_unit(&values::duration_units(), ""),
        Shape::DurationOrOff => with_unit(&values::duration_units(), "|off"),
        Shape::Size => with_unit(&values::size_units(), ""),
        Shape::Choice(words) => json!({"enum": words}),
        Shape::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Shape::Numbers => json!({
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX},
        }),
        Shape::Boolean => json!({"type": "boolean"}),
        Shape::Count => json!({"type": "integer", "minimum": 1}),
        Shape::CountOrAuto => {
            json!({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]})
        }
        Shape::Text | Shape::Path | Shape::Section | Shape::Sections | Shape::SectionOrSections => {
            json!({"type": "string"})
        }
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What the reference says of each key: its comment, and its default.
struct Reference(BTreeMap<String, (String, Option<Value>)>);

impl Reference {
    fn read() -> Self {
        let mut known = BTreeMap::new();
        let (mut path, mut comment) = (String::new(), Vec::new());
        // What stands behind a setting without a word of its own shares that one's.
        let mut said = String::new();
        for line in REFERENCE.lines() {
            let mark = MARKS.into_iter().find(|mark| line.starts_with(mark));
            let setting = mark.map_or(line, |mark| &line[mark.len()..]);
            if mark.is_none()
                && let Some(words) = line.strip_prefix('#')
            {
                comment.push(words.trim());
                continue;
            }
            if !comment.is_empty() || setting.is_empty() {
                said = std::mem::take(&mut comment).join(" ");
            }
            if let Some(header) = setting.strip_prefix('[') {
                header.trim_matches(['[', ']']).clone_into(&mut path);
                known
                    .entry(path.clone())
                    .or_insert_with(|| (said.clone(), None));
            } else if let Some((key, value)) = setting.split_once(" = ") {
                let name = match &*path {
                    "" => key.to_owned(),
                    path => format!("{path}.{key}"),
                };
                let default = (mark == Some("#= ")).then(|| default(value)).flatten();
                known.entry(name).or_insert_with(|| (said.clone(), default));
            }
        }
        Self(known)
    }

    /// Adds what is said of a key: in its own place, or where what it takes is said for all.
    fn explain(&self, name: &str, value: &mut Map<String, Value>) {
        let short = match name.split_once('.') {
            Some(("listener", key)) => format!("listen.{key}"),
            Some(("upstream", key)) => key.to_owned(),
            _ => String::new(),
        };
        let told = |name: &str| self.0.get(name).filter(|(said, _)| !said.is_empty());
        let Some((said, default)) = told(name).or_else(|| told(&short)) else {
            return;
        };
        value.insert("description".into(), json!(said));
        if let Some(default) = default {
            value.insert("default".into(), default.clone());
        }
    }
}

/// A value of TOML's as one of JSON's.
fn default(text: &str) -> Option<Value> {
    let table: toml::Table = format!("value = {text}").parse().ok()?;
    serde_json::to_value(table.get("value")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'s>(schema: &'s Value, path: &str) -> &'s Value {
        let pointer = path.replace('.', "/properties/");
        schema.pointer(&format!("/properties/{pointer}")).unwrap()
    }

    #[test]
    fn every_key_of_the_reference_is_in_it_with_its_meaning() {
        let mut draft = Draft::new();
        let asked = file::take(&Sources::default(), &mut draft);
        let reference = Reference::read();
        let unknown: Vec<_> = reference.0.keys().collect();
        let unknown = unknown
            .iter()
            .filter(|key| !asked.shapes.contains_key(**key));
        assert_eq!(unknown.collect::<Vec<_>>(), Vec::<&&String>::new());
        let mut silent = Vec::new();
        for name in asked.shapes.keys() {
            let mut value = Map::new();
            reference.explain(name, &mut value);
            if value.is_empty() {
                silent.push(name.as_str());
            }
        }
        assert_eq!(silent, Vec::<&str>::new());
    }

    #[test]
    fn values_have_their_form_and_their_default() {
        let schema = schema();
        let ttl = at(&schema, "keys.ttl");
        assert_eq!(ttl["default"], "24h");
        assert!(ttl["pattern"].as_str().unwrap().contains("ms|s|m|h|d"));
        assert_eq!(at(&schema, "limits.max_sessions")["default"], 10_000);
        let scopes = &at(&schema, "route.scope")["enum"];
        assert_eq!(*scopes, json!(["session", "statement"]));
        let upstream = &at(&schema, "upstream")["oneOf"];
        assert!(upstream[0].get("required").is_none());
        assert_eq!(upstream[1]["items"]["required"], json!(["name"]));
        let listener = &at(&schema, "listener")["items"];
        assert_eq!(listener["required"], json!(["addresses"]));
        let rule = &listener["properties"]["rule"]["items"];
        assert_eq!(rule["required"], json!(["upstream"]));
    }
}
