//! From the direct edges "this reads that" to every relation and function that leads to MaxCompute.
//!
//! The closure is computed here and not by a recursive query: it needs nothing of the server but
//! plain joins, and names, not OIDs, are what it hands on.

use std::collections::{HashMap, HashSet, VecDeque};

use super::contents::{Conduct, Function, Relation, Sort};
use crate::sql::{self, Change};

/// A relation or function, as the catalog spells it: one that reads, or one that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) sort: Sort,
}

/// A MaxCompute foreign table and its `project_name` option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ForeignTable {
    pub(crate) name: Node,
    pub(crate) project: Option<String>,
}

/// One relation or function reads another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) reader: Node,
    pub(crate) read: Node,
    /// True if it reads the other as a parent reads what inherits from it.
    pub(crate) inherited: bool,
    /// True if it reads the other by a row-level policy.
    pub(crate) policed: bool,
}

/// A function and what its body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Routine {
    pub(crate) function: Node,
    /// Its own search path, if it has one that does not depend on its caller.
    pub(crate) path: Option<Vec<String>>,
    /// What the body says; `None`: it cannot be read.
    pub(crate) body: Option<sql::Body>,
}

/// What a name in a body may mean that is a relation, or not known to be none; that is called; that is
/// written.
const ANYTHING: &[Sort] = &[Sort::Relation, Sort::Function];
const CALLED: &[Sort] = &[Sort::Function];
const WRITTEN: &[Sort] = &[Sort::Written];

/// All functions of a database: what their bodies name, and what they may do with a text.
struct Functions<'a> {
    routines: &'a [Routine],
    by_name: HashMap<&'a str, Vec<&'a Routine>>,
    /// Those of which nothing runs a text of its own or its caller's making.
    plain: HashSet<&'a Node>,
    /// Those of `plain` that do nothing but read.
    reading: HashSet<&'a Node>,
}

impl<'a> Functions<'a> {
    fn new(routines: &'a [Routine]) -> Self {
        let mut by_name: HashMap<&str, Vec<&Routine>> = HashMap::new();
        for routine in routines {
            by_name
                .entry(&routine.function.name)
                .or_default()
                .push(routine);
        }
        let mut functions = Self {
            routines,
            by_name,
            plain: HashSet::new(),
            reading: HashSet::new(),
        };
        functions.plain = functions.all_that(|body| !body.runs_text);
        functions.reading = functions.all_that(|body| !body.runs_text && body.only_reads);
        functions
    }

    /// The functions of which every body is such, and that call only functions which are.
    fn all_that(&self, such: impl Fn(&sql::Body) -> bool) -> HashSet<&'a Node> {
        let mut all: HashSet<&Node> = self
            .routines
            .iter()
            .map(|routine| &routine.function)
            .collect();
        loop {
            let before = all.len();
            for routine in self.routines {
                let calls_such = |read: &sql::Body| {
                    read.calls.iter().all(|call| {
                        let mut called = self.called(call).peekable();
                        called.peek().is_some()
                            && called.all(|routine| all.contains(&routine.function))
                    })
                };
                let is_such = routine
                    .body
                    .as_ref()
                    .is_some_and(|read| such(read) && calls_such(read));
                if !is_such {
                    all.remove(&routine.function);
                }
            }
            if all.len() == before {
                return all;
            }
        }
    }

    fn called(&self, (schema, name): &sql::WrittenName) -> impl Iterator<Item = &'a Routine> {
        let of_name = self.by_name.get(name.as_str()).into_iter().flatten();
        of_name.copied().filter(move |routine| {
            schema
                .as_ref()
                .is_none_or(|schema| *schema == routine.function.schema)
        })
    }

    /// Every name in the bodies, with the function that may read it.
    fn references(&self) -> HashMap<&'a str, Vec<Use<'a>>> {
        let mut uses: HashMap<&str, Vec<Use<'_>>> = HashMap::new();
        for routine in self.routines {
            let Some(read) = &routine.body else { continue };
            let strings = if self.plain.contains(&routine.function) {
                &[][..]
            } else {
                &read.in_strings
            };
            for (references, sorts) in [
                (&*read.mentions, ANYTHING),
                (strings, ANYTHING),
                (&read.calls, CALLED),
                (&read.own_calls, CALLED),
                (&read.writes, WRITTEN),
            ] {
                for (schema, name) in references {
                    uses.entry(name).or_default().push(Use {
                        routine,
                        schema: schema.as_deref(),
                        sorts,
                    });
                }
            }
        }
        uses
    }

    /// What the call of each may change for its session: what its bodies do, and the functions that they
    /// call.
    fn settings(&self) -> HashMap<&'a Node, (Vec<Change>, bool)> {
        let mut all: HashMap<&Node, (Vec<Change>, bool)> = HashMap::new();
        let mut grew = true;
        while grew {
            grew = false;
            for routine in self.routines {
                let Some(body) = &routine.body else { continue };
                let called = body.calls.iter().flat_map(|call| self.called(call));
                let called = called
                    .filter_map(|called| all.get(&called.function))
                    .cloned();
                let own = (body.sets.clone(), body.sets_route);
                let found: Vec<_> = std::iter::once(own).chain(called).collect();
                for (sets, route) in found {
                    if sets.is_empty() && !route {
                        continue;
                    }
                    let known = all.entry(&routine.function).or_default();
                    grew |= route && !known.1;
                    known.1 |= route;
                    for change in sets {
                        if !known.0.contains(&change) {
                            known.0.push(change);
                            grew = true;
                        }
                    }
                }
            }
        }
        all
    }

    fn known(&self) -> Vec<Function> {
        let mut settings = self.settings();
        let with_body = self
            .routines
            .iter()
            .filter(|routine| routine.body.is_some());
        let names: HashSet<&Node> = with_body.map(|routine| &routine.function).collect();
        let mut known: Vec<Function> = names
            .into_iter()
            .map(|name| (name, settings.remove(name).unwrap_or_default()))
            .map(|(name, (sets, sets_route))| Function {
                schema: name.schema.clone(),
                name: name.name.clone(),
                sets,
                sets_route,
                conduct: if self.reading.contains(name) {
                    Conduct::OnlyReads
                } else if self.plain.contains(name) {
                    Conduct::RunsNoText
                } else {
                    Conduct::MayRunText
                },
            })
            .collect();
        known.sort_unstable_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        known
    }
}

/// A name in a function's body.
struct Use<'a> {
    routine: &'a Routine,
    schema: Option<&'a str>,
    /// What it may mean.
    sorts: &'static [Sort],
}

impl Use<'_> {
    /// True if it may mean `name`. `bears` tells whether a relation of that name is in a schema.
    fn means(&self, name: &Node, bears: impl Fn(&str) -> bool) -> bool {
        if !self.sorts.contains(&name.sort) {
            return false;
        }
        match (self.schema, &self.routine.path) {
            (Some(schema), _) => schema == name.schema,
            (None, None) => true,
            (None, Some(path)) => path
                .iter()
                .find(|&schema| {
                    *schema == name.schema || name.sort != Sort::Function && bears(schema)
                })
                .is_some_and(|schema| *schema == name.schema),
        }
    }
}

/// What leads to `foreign`, itself included, given all direct edges of the database, the functions
/// of which only a text is known, and what else bears the name of a relation that may lead there.
/// Foreign tables come first; a relation comes after at least one that it reads. Cycles (rules can
/// make them) and repeated edges do no harm. Answers also which functions run no text.
pub(crate) fn relations(
    foreign: Vec<ForeignTable>,
    edges: &[Edge],
    routines: &[Routine],
    bearers: &[(String, String)],
) -> (Vec<Relation>, Vec<Function>) {
    let mut readers: HashMap<&Node, Vec<(&Node, [bool; 2])>> = HashMap::new();
    for edge in edges {
        let reader = (&edge.reader, [edge.inherited, edge.policed]);
        readers.entry(&edge.read).or_default().push(reader);
    }
    let functions = Functions::new(routines);
    let uses = functions.references();
    let bearers: HashSet<(&str, &str)> = bearers
        .iter()
        .map(|(schema, name)| (schema.as_str(), name.as_str()))
        .collect();
    let mut index: HashMap<Node, usize> = HashMap::new();
    let mut found: Vec<Relation> = Vec::new();
    let mut queue: VecDeque<Node> = VecDeque::new();
    for table in foreign {
        if !index.contains_key(&table.name) {
            add(
                &mut index,
                &mut found,
                &table.name,
                table.project,
                [false; 2],
            );
            queue.push_back(table.name);
        }
    }
    let mut seen = HashSet::new();
    while let Some(read) = queue.pop_front() {
        let to = index[&read];
        let by_edge = readers.get(&read).into_iter().flatten().copied();
        let bears = |schema: &str| bearers.contains(&(schema, read.name.as_str()));
        let by_name = uses.get(read.name.as_str()).into_iter().flatten();
        let by_name = by_name
            .filter(|used| used.means(&read, bears))
            .map(|used| (&used.routine.function, [false; 2]));
        for (reader, [inherited, policed]) in by_edge.chain(by_name) {
            let from = index.get(reader).copied().unwrap_or_else(|| {
                queue.push_back(reader.clone());
                add(&mut index, &mut found, reader, None, [true; 2])
            });
            found[from].inherited &= inherited;
            found[from].policed &= policed;
            if from != to && seen.insert((from, to)) {
                found[from].reads.push(to);
            }
        }
    }
    (found, functions.known())
}

/// Who reads whom, what is read first, each once and in order; without what leads to MaxCompute, which says
/// itself what it reads.
pub(crate) fn readers(edges: Vec<Edge>, leading: &[Relation]) -> Vec<[(String, String); 2]> {
    let leading: HashSet<(&str, &str)> = leading
        .iter()
        .map(|relation| (relation.schema.as_str(), relation.name.as_str()))
        .collect();
    let leads = |node: &Node| leading.contains(&(node.schema.as_str(), node.name.as_str()));
    let name = |node: Node| (node.schema, node.name);
    let mut readers: Vec<_> = edges
        .into_iter()
        .filter(|edge| !(leads(&edge.read) && leads(&edge.reader)))
        .map(|edge| [name(edge.read), name(edge.reader)])
        .filter(|[read, reader]| read != reader)
        .collect();
    readers.sort_unstable();
    readers.dedup();
    readers
}

fn add(
    index: &mut HashMap<Node, usize>,
    found: &mut Vec<Relation>,
    name: &Node,
    project: Option<String>,
    [inherited, policed]: [bool; 2],
) -> usize {
    let at = found.len();
    index.insert(name.clone(), at);
    let Node { schema, name, sort } = name.clone();
    found.push(Relation {
        schema,
        name,
        sort,
        inherited,
        policed,
        project,
        reads: Vec::new(),
    });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Node {
        Node {
            schema: "public".into(),
            name: name.into(),
            sort: Sort::Relation,
        }
    }

    fn function(function: &str) -> Node {
        Node {
            sort: Sort::Function,
            ..name(function)
        }
    }

    fn foreign(table: &str, project: &str) -> ForeignTable {
        ForeignTable {
            name: name(table),
            project: Some(project.into()),
        }
    }

    fn edge(reader: Node, read: Node) -> Edge {
        Edge {
            reader,
            read,
            inherited: false,
            policed: false,
        }
    }

    fn edges(pairs: &[(&str, &str)]) -> Vec<Edge> {
        pairs
            .iter()
            .map(|(reader, read)| edge(name(reader), name(read)))
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
        let found = relations(vec![foreign("f", "p")], &edges, &[], &[]).0;
        assert_eq!(names(&found), ["f", "v1", "v2", "v3"]);
        assert_eq!(found[0].project.as_deref(), Some("p"));
        assert_eq!(found[3].reads, [2]);
    }

    #[test]
    fn plain_relations_are_left_out_of_what_a_view_reads() {
        let edges = edges(&[("v", "plain"), ("v", "f"), ("v", "f"), ("v", "g")]);
        let found = relations(vec![foreign("f", "p"), foreign("g", "q")], &edges, &[], &[]).0;
        assert_eq!(names(&found), ["f", "g", "v"]);
        assert_eq!(found[2].reads, [0, 1]);
    }

    #[test]
    fn who_reads_whom_is_told_once_and_of_all() {
        let pairs = [("v", "plain"), ("w", "v"), ("v", "plain"), ("v", "v")];
        let name = |name: &str| ("public".to_owned(), name.to_owned());
        let of_all = [[name("plain"), name("v")], [name("v"), name("w")]];
        assert_eq!(readers(edges(&pairs), &[]), of_all);
        let (leading, _) = relations(vec![foreign("v", "p")], &edges(&pairs), &[], &[]);
        assert_eq!(readers(edges(&pairs), &leading), of_all[..1]);
    }

    #[test]
    fn a_cycle_ends() {
        let edges = edges(&[("a", "b"), ("b", "a"), ("a", "a"), ("b", "f")]);
        let found = relations(vec![foreign("f", "p")], &edges, &[], &[]).0;
        assert_eq!(names(&found), ["f", "b", "a"]);
        assert_eq!(found[1].reads, [0, 2]);
    }

    #[test]
    fn equal_names_in_other_schemas_are_other_relations() {
        let other = Node {
            schema: "other".into(),
            ..name("v")
        };
        let edges = [edge(other, name("f"))];
        let found = relations(vec![foreign("f", "p")], &edges, &[], &[]).0;
        assert_eq!(found[1].qualified(), "other.v");
    }

    #[test]
    fn functions_lead_on_by_edge_and_by_the_names_in_their_bodies() {
        let edges = [
            edge(function("atomic"), name("f")),
            edge(name("over_text"), function("text")),
        ];
        let bodies = [
            body("text", "begin return count(*) from f; end"),
            body("calls", "begin return text() + calls(); end"),
            body("harmless", "begin return count(*) from plain; end"),
        ];
        let (found, _) = relations(vec![foreign("f", "p")], &edges, &bodies, &[]);
        assert_eq!(names(&found), ["f", "atomic", "text", "over_text", "calls"]);
        assert_eq!(found[2].reads, [0]);
        assert_eq!(found[4].reads, [2]);
        assert_eq!(
            (found[2].sort, found[3].sort),
            (Sort::Function, Sort::Relation)
        );
        assert_eq!(found[4].qualified(), "public.calls()");
    }

    fn body(of: &str, text: &str) -> Routine {
        Routine {
            function: function(of),
            path: None,
            body: sql::read_body(text, "plpgsql"),
        }
    }

    #[test]
    fn a_function_has_its_own_search_path() {
        let on_path = |path: &[&str]| Routine {
            path: Some(path.iter().map(|&schema| schema.to_owned()).collect()),
            ..body("reads", "begin return count(*) from f; end")
        };
        let bearers = [("first".to_owned(), "f".to_owned())];
        let leads = |path: &[&str]| {
            let foreign = vec![foreign("f", "p")];
            relations(foreign, &[], &[on_path(path)], &bearers).0.len() > 1
        };
        assert!(leads(&["public"]) && leads(&["other", "public", "first"]));
        assert!(!leads(&["other"]) && !leads(&["first", "public"]));
    }

    #[test]
    fn what_runs_no_text_is_known_and_its_strings_mean_nothing() {
        let bodies = [
            body("plain", "begin return upper('f'); end"),
            body("calls_plain", "begin return plain() || 'f'; end"),
            body("each", "begin return other() || 'f'; end"),
            body("other", "begin return each(); end"),
            body("writes", "begin insert into log values ('f'); end"),
            body("runs", "begin execute t; end"),
            body("calls_runs", "begin perform runs('select * from f'); end"),
            body("calls_unknown", "begin perform elsewhere.runs('f'); end"),
            body("overloaded", "begin return 1; end"),
            Routine {
                body: None,
                ..body("overloaded", "")
            },
        ];
        let (found, known) = relations(vec![foreign("f", "p")], &[], &bodies, &[]);
        assert_eq!(names(&found), ["f", "calls_runs", "calls_unknown"]);
        let known: Vec<(&str, Conduct)> = known
            .iter()
            .map(|function| (function.name.as_str(), function.conduct))
            .collect();
        assert_eq!(
            known,
            [
                ("calls_plain", Conduct::OnlyReads),
                ("calls_runs", Conduct::MayRunText),
                ("calls_unknown", Conduct::MayRunText),
                ("each", Conduct::OnlyReads),
                ("other", Conduct::OnlyReads),
                ("overloaded", Conduct::MayRunText),
                ("plain", Conduct::OnlyReads),
                ("runs", Conduct::MayRunText),
                ("writes", Conduct::RunsNoText),
            ]
        );
    }

    #[test]
    fn what_is_called_sets_for_who_calls_it() {
        let bodies = [
            body("enters", "begin set search_path = a; end"),
            body("calls", "begin perform enters(); perform calls(); end"),
            body("calls_both", "begin perform runs(); perform calls(); end"),
            body("runs", "begin execute t; end"),
            body("plain", "begin return 1; end"),
        ];
        let (_, known) = relations(Vec::new(), &[], &bodies, &[]);
        let known: Vec<_> = known
            .iter()
            .map(|known| (known.name.as_str(), known.sets.len(), known.sets_route))
            .collect();
        assert_eq!(
            known,
            [
                ("calls", 1, false),
                ("calls_both", 1, true),
                ("enters", 1, false),
                ("plain", 0, false),
                ("runs", 0, true),
            ]
        );
    }

    #[test]
    fn what_is_read_when_it_is_written_is_not_when_it_is_read() {
        let written = |table: &str| Node {
            sort: Sort::Written,
            ..name(table)
        };
        let edges = [
            edge(written("stored"), name("f")),
            edge(name("v"), name("stored")),
        ];
        let bodies = [
            body("refreshes", "begin refresh materialized view stored; end"),
            body("reads", "begin return count(*) from stored; end"),
        ];
        let (found, _) = relations(vec![foreign("f", "p")], &edges, &bodies, &[]);
        assert_eq!(names(&found), ["f", "stored", "refreshes"]);
    }

    #[test]
    fn a_parent_reads_only_what_inherits_unless_it_reads_itself() {
        let inherits = |parent: &str, child: &str| Edge {
            inherited: true,
            policed: false,
            ..edge(name(parent), name(child))
        };
        let edges = [
            inherits("parent", "f"),
            inherits("both", "f"),
            edge(name("both"), name("f")),
        ];
        let (found, _) = relations(vec![foreign("f", "p")], &edges, &[], &[]);
        let inherited: Vec<bool> = found.iter().map(|relation| relation.inherited).collect();
        assert_eq!(names(&found), ["f", "parent", "both"]);
        assert_eq!(inherited, [false, true, false]);
    }
}
