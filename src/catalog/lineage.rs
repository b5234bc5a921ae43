//! From the direct edges "this reads that" to every relation and function that leads to MaxCompute.
//!
//! The closure is computed here and not by a recursive query: it needs nothing of the server but
//! plain joins, and names, not OIDs, are what it hands on.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Relation;

/// A relation or a function, as the catalog spells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// A function; functions of one name count as one.
    pub function: bool,
}

/// A MaxCompute foreign table and its project option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTable {
    /// Which table.
    pub name: Name,
    /// Its `project_name` option.
    pub project: Option<String>,
}

/// A function whose body is a text, and every identifier in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Which function.
    pub function: Name,
    /// What it may mean.
    pub mentions: HashSet<String>,
}

/// What leads to `foreign`, itself included, given all direct edges `(reader, read)` of the
/// database, and the functions of which only a text is known: they may read whatever bears a name
/// that stands in it. Foreign tables come first; a relation comes after at least one that it reads.
/// Cycles (rules can make them) and repeated edges do no harm.
pub fn relations(
    foreign: Vec<ForeignTable>,
    edges: &[(Name, Name)],
    bodies: &[Body],
) -> Vec<Relation> {
    let mut readers: HashMap<&Name, Vec<&Name>> = HashMap::new();
    for (reader, read) in edges {
        readers.entry(read).or_default().push(reader);
    }
    let mut mentioned: HashMap<&str, Vec<&Name>> = HashMap::new();
    for body in bodies {
        for name in &body.mentions {
            mentioned.entry(name).or_default().push(&body.function);
        }
    }
    let mut index: HashMap<Name, usize> = HashMap::new();
    let mut found: Vec<Relation> = Vec::new();
    let mut queue: VecDeque<Name> = VecDeque::new();
    for table in foreign {
        if !index.contains_key(&table.name) {
            add(&mut index, &mut found, &table.name, table.project);
            queue.push_back(table.name);
        }
    }
    let mut seen = HashSet::new();
    while let Some(read) = queue.pop_front() {
        let to = index[&read];
        let by_edge = readers.get(&read).into_iter().flatten();
        let by_name = mentioned.get(read.name.as_str()).into_iter().flatten();
        for &reader in by_edge.chain(by_name) {
            let from = index.get(reader).copied().unwrap_or_else(|| {
                queue.push_back(reader.clone());
                add(&mut index, &mut found, reader, None)
            });
            if from != to && seen.insert((from, to)) {
                found[from].reads.push(to);
            }
        }
    }
    found
}

fn add(
    index: &mut HashMap<Name, usize>,
    found: &mut Vec<Relation>,
    name: &Name,
    project: Option<String>,
) -> usize {
    let at = found.len();
    index.insert(name.clone(), at);
    let Name {
        schema,
        name,
        function,
    } = name.clone();
    found.push(Relation {
        schema,
        name,
        function,
        project,
        reads: Vec::new(),
    });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        Name {
            schema: "public".into(),
            name: name.into(),
            function: false,
        }
    }

    fn function(function: &str) -> Name {
        Name {
            function: true,
            ..name(function)
        }
    }

    fn foreign(table: &str, project: &str) -> ForeignTable {
        ForeignTable {
            name: name(table),
            project: Some(project.into()),
        }
    }

    fn edges(pairs: &[(&str, &str)]) -> Vec<(Name, Name)> {
        pairs
            .iter()
            .map(|(reader, read)| (name(reader), name(read)))
            .collect()
    }

    fn names(relations: &[Relation]) -> Vec<&str> {
        relations
            .iter()
            .map(|relation| relation.name.as_str())
            .collect()
    }

    #[test]
    fn views_over_views_lead_to_the_foreign_table() {
        let edges = edges(&[("v3", "v2"), ("v2", "v1"), ("v1", "f"), ("w", "plain")]);
        let found = relations(vec![foreign("f", "p")], &edges, &[]);
        assert_eq!(names(&found), ["f", "v1", "v2", "v3"]);
        assert_eq!(found[0].project.as_deref(), Some("p"));
        assert_eq!(found[3].reads, [2]);
    }

    #[test]
    fn plain_relations_are_left_out_of_what_a_view_reads() {
        let edges = edges(&[("v", "plain"), ("v", "f"), ("v", "f"), ("v", "g")]);
        let found = relations(vec![foreign("f", "p"), foreign("g", "q")], &edges, &[]);
        assert_eq!(names(&found), ["f", "g", "v"]);
        assert_eq!(found[2].reads, [0, 1]);
    }

    #[test]
    fn a_cycle_ends() {
        let edges = edges(&[("a", "b"), ("b", "a"), ("a", "a"), ("b", "f")]);
        let found = relations(vec![foreign("f", "p")], &edges, &[]);
        assert_eq!(names(&found), ["f", "b", "a"]);
        assert_eq!(found[1].reads, [0, 2]);
    }

    #[test]
    fn equal_names_in_other_schemas_are_other_relations() {
        let edges = vec![(
            Name {
                schema: "other".into(),
                ..name("v")
            },
            name("f"),
        )];
        let found = relations(vec![foreign("f", "p")], &edges, &[]);
        assert_eq!(found[1].qualified(), "other.v");
    }

    #[test]
    fn functions_lead_on_by_edge_and_by_the_names_in_their_bodies() {
        let edges = vec![
            (function("atomic"), name("f")),
            (name("over_text"), function("text")),
        ];
        let body = |of: &str, mentions: &[&str]| Body {
            function: function(of),
            mentions: mentions.iter().map(|&name| name.to_owned()).collect(),
        };
        let bodies = [
            body("text", &["select", "f"]),
            body("calls", &["text", "calls"]),
            body("harmless", &["plain"]),
        ];
        let found = relations(vec![foreign("f", "p")], &edges, &bodies);
        assert_eq!(names(&found), ["f", "atomic", "text", "over_text", "calls"]);
        assert_eq!(found[2].reads, [0]);
        assert_eq!(found[4].reads, [2]);
        assert!(found[2].function && !found[3].function);
        assert_eq!(found[4].qualified(), "public.calls()");
    }
}
