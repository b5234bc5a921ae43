//! From the direct edges "this relation reads that one" to every relation that leads to MaxCompute.
//!
//! The closure is computed here and not by a recursive query: it needs nothing of the server but
//! two plain joins, and names, not OIDs, are what it hands on.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Relation;

/// `(schema, name)` as the catalog spells them.
pub type Name = (String, String);

/// A MaxCompute foreign table and its project option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignTable {
    /// Which table.
    pub name: Name,
    /// Its `project_name` option.
    pub project: Option<String>,
}

/// The relations that lead to `foreign`, themselves included, given all direct edges
/// `(reader, read)` of the database. Foreign tables come first; a relation comes after at least
/// one that it reads. Cycles (rules can make them) and repeated edges do no harm.
pub fn relations(foreign: Vec<ForeignTable>, edges: &[(Name, Name)]) -> Vec<Relation> {
    let mut readers: HashMap<&Name, Vec<&Name>> = HashMap::new();
    for (reader, read) in edges {
        readers.entry(read).or_default().push(reader);
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
    while let Some(read) = queue.pop_front() {
        for &reader in readers.get(&read).into_iter().flatten() {
            if !index.contains_key(reader) {
                add(&mut index, &mut found, reader, None);
                queue.push_back(reader.clone());
            }
        }
    }
    let mut seen = HashSet::new();
    for (reader, read) in edges {
        if let (Some(&from), Some(&to)) = (index.get(reader), index.get(read))
            && from != to
            && seen.insert((from, to))
        {
            found[from].reads.push(to);
        }
    }
    found
}

fn add(
    index: &mut HashMap<Name, usize>,
    found: &mut Vec<Relation>,
    name: &Name,
    project: Option<String>,
) {
    index.insert(name.clone(), found.len());
    let (schema, name) = name.clone();
    found.push(Relation {
        schema,
        name,
        project,
        reads: Vec::new(),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        ("public".into(), name.into())
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
        let found = relations(vec![foreign("f", "p")], &edges);
        assert_eq!(names(&found), ["f", "v1", "v2", "v3"]);
        assert_eq!(found[0].project.as_deref(), Some("p"));
        assert_eq!(found[3].reads, [2]);
    }

    #[test]
    fn plain_relations_are_left_out_of_what_a_view_reads() {
        let edges = edges(&[("v", "plain"), ("v", "f"), ("v", "f"), ("v", "g")]);
        let found = relations(vec![foreign("f", "p"), foreign("g", "q")], &edges);
        assert_eq!(names(&found), ["f", "g", "v"]);
        assert_eq!(found[2].reads, [0, 1]);
    }

    #[test]
    fn a_cycle_ends() {
        let edges = edges(&[("a", "b"), ("b", "a"), ("a", "a"), ("b", "f")]);
        let found = relations(vec![foreign("f", "p")], &edges);
        assert_eq!(names(&found), ["f", "b", "a"]);
        assert_eq!(found[1].reads, [2, 0]);
    }

    #[test]
    fn equal_names_in_other_schemas_are_other_relations() {
        let edges = vec![((String::from("other"), String::from("v")), name("f"))];
        let found = relations(vec![foreign("f", "p")], &edges);
        assert_eq!(found[1].qualified(), "other.v");
    }
}
