//! Which relation a name means, as PostgreSQL resolves it, and how that relation stands.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::names::{NameContext, clip};
use super::reason::Reason;
use crate::config::TablePattern;
use crate::glob::Glob;
use crate::sql::{Change, RelationName, WrittenName};

/// How a relation stands to encrypted data.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Leads to it.
    Protected(Arc<Reason>),
    /// Leads to MaxCompute data that is not known to be encrypted.
    Foreign,
    /// Does not lead to MaxCompute.
    Plain,
}

impl Standing {
    /// The graver of the two: protected before foreign before plain.
    pub(super) fn or_graver(self, other: Self) -> Self {
        let weight = |standing: &Self| match standing {
            Self::Protected(_) => 2,
            Self::Foreign => 1,
            Self::Plain => 0,
        };
        if weight(&other) > weight(&self) {
            other
        } else {
            self
        }
    }
}

#[derive(Debug)]
struct Entry {
    schema: Box<str>,
    standing: Standing,
    /// It stands so only through what inherits from it.
    inherited: bool,
    /// It stands so only through its policies.
    policed: bool,
}

/// A function of which every body is known, and none runs a text.
#[derive(Debug)]
struct RunsNoText {
    schema: Box<str>,
    only_reads: bool,
}

/// A function whose call may change something for its session.
#[derive(Debug)]
struct Sets {
    schema: Box<str>,
    changes: Vec<Change>,
    route: bool,
}

/// Who reads a relation or function.
#[derive(Debug)]
struct Reader {
    schema: Box<str>,
    reader: WrittenName,
}

/// So many relations above one are told of.
const MAX_ABOVE: usize = 256;

type ByName<T> = HashMap<Box<[u8]>, Vec<T>, RandomState>;

#[derive(Debug)]
struct Pattern {
    database: Glob,
    schema: Glob,
    table: Glob,
    /// The database pattern matches this database; else it can only match three-part names.
    here: bool,
    reason: Arc<Reason>,
}

/// All relations whose names matter, and the operator's patterns.
#[derive(Debug)]
pub(super) struct Relations {
    database: String,
    by_name: ByName<Entry>,
    /// How relations stand when they are written, if that reads.
    written: ByName<Entry>,
    /// Functions that are not plain.
    functions: ByName<Entry>,
    run_no_text: ByName<RunsNoText>,
    setting: ByName<Sets>,
    /// By the name of what is read.
    readers: ByName<Reader>,
    /// The schemas that a role may not use.
    barred: HashMap<Box<str>, Vec<Box<str>>, RandomState>,
    /// The roles to which no policy applies.
    unpoliced: HashSet<Box<str>, RandomState>,
    patterns: Vec<Pattern>,
    /// The gravest standing of what has a name beyond ASCII.
    not_ascii: Standing,
}

impl Relations {
    /// No relations yet, of this database.
    pub(super) fn new(database: &str) -> Self {
        Self {
            database: database.to_owned(),
            by_name: HashMap::default(),
            written: HashMap::default(),
            functions: HashMap::default(),
            run_no_text: HashMap::default(),
            setting: HashMap::default(),
            readers: HashMap::default(),
            barred: HashMap::default(),
            unpoliced: HashSet::default(),
            patterns: Vec::new(),
            not_ascii: Standing::Plain,
        }
    }

    /// The database's name.
    pub(super) fn database(&self) -> &str {
        &self.database
    }

    /// Adds a relation that is read. If it is there already, the graver of the two standings
    /// counts.
    pub(super) fn insert(&mut self, schema: &str, name: &str, standing: Standing) {
        self.note_encoding(name, &standing);
        insert(&mut self.by_name, schema, name, standing);
    }

    /// Adds a function that is called; of two standings the graver counts.
    pub(super) fn insert_function(&mut self, schema: &str, name: &str, standing: Standing) {
        self.note_encoding(name, &standing);
        insert(&mut self.functions, schema, name, standing);
    }

    /// Adds a relation that reads others when it is written; of two standings the graver counts.
    pub(super) fn insert_written(&mut self, schema: &str, name: &str, standing: Standing) {
        self.note_encoding(name, &standing);
        insert(&mut self.written, schema, name, standing);
    }

    /// Notes that a relation which was added leads on only through what inherits from it.
    pub(super) fn set_inherited(&mut self, schema: &str, name: &str) {
        let entries = self.by_name.get_mut(name.as_bytes()).into_iter().flatten();
        for entry in entries.filter(|entry| *entry.schema == *schema) {
            entry.inherited = true;
        }
    }

    /// Notes that a relation which was added leads on only through its policies.
    pub(super) fn set_policed(&mut self, schema: &str, name: &str) {
        let entries = self.by_name.get_mut(name.as_bytes()).into_iter().flatten();
        for entry in entries.filter(|entry| *entry.schema == *schema) {
            entry.policed = true;
        }
    }

    /// Notes that no policy applies to a role.
    pub(super) fn insert_unpoliced(&mut self, role: &str) {
        self.unpoliced.insert(role.into());
    }

    /// Notes that a function runs no text, and whether it does nothing but read.
    pub(super) fn insert_runs_no_text(&mut self, schema: &str, name: &str, only_reads: bool) {
        let functions = self.run_no_text.entry(name.as_bytes().into()).or_default();
        functions.push(RunsNoText {
            schema: schema.into(),
            only_reads,
        });
    }

    /// Notes what the call of a function may change for its session, and whether the route may be another
    /// one then.
    pub(super) fn insert_sets(
        &mut self,
        schema: &str,
        name: &str,
        changes: Vec<Change>,
        route: bool,
    ) {
        // It is a name to look for.
        self.insert_function(schema, name, Standing::Plain);
        let functions = self.setting.entry(name.as_bytes().into()).or_default();
        functions.push(Sets {
            schema: schema.into(),
            changes,
            route,
        });
    }

    /// Notes that a relation or function reads another one directly.
    pub(super) fn insert_reader(&mut self, read: (&str, &str), reader: (&str, &str)) {
        let (schema, name) = read;
        let readers = self.readers.entry(name.as_bytes().into()).or_default();
        readers.push(Reader {
            schema: schema.into(),
            reader: (Some(reader.0.to_owned()), reader.1.to_owned()),
        });
    }

    /// All that reads what is so called, directly or through others; `None`: too much to name it.
    pub(super) fn above(&self, name: &WrittenName) -> Option<Vec<WrittenName>> {
        let mut above: Vec<WrittenName> = Vec::new();
        let mut next = Some(name.clone());
        let mut looked_at = 0;
        while let Some((schema, name)) = next {
            let readers = of_name(&self.readers, name.as_bytes()).iter();
            let its = readers.filter(|reader| {
                schema
                    .as_ref()
                    .is_none_or(|schema| *reader.schema == **schema)
            });
            for Reader { reader, .. } in its {
                if !above.contains(reader) {
                    above.push(reader.clone());
                }
            }
            if above.len() > MAX_ABOVE {
                return None;
            }
            next = above.get(looked_at).cloned();
            looked_at += 1;
        }
        Some(above)
    }

    /// Notes that a role may not use a schema.
    pub(super) fn insert_barred(&mut self, role: &str, schema: &str) {
        let schemas = self.barred.entry(role.into()).or_default();
        schemas.push(schema.into());
    }

    fn note_encoding(&mut self, name: &str, standing: &Standing) {
        if !name.is_ascii() {
            self.note_not_ascii(standing.clone());
        }
    }

    fn note_not_ascii(&mut self, standing: Standing) {
        let before = std::mem::replace(&mut self.not_ascii, Standing::Plain);
        self.not_ascii = before.or_graver(standing);
    }

    /// Adds a pattern of the operator's, whose relations are protected for this reason.
    pub(super) fn add_pattern(&mut self, pattern: &TablePattern, reason: Arc<Reason>) {
        if !pattern.table.is_ascii() {
            self.note_not_ascii(Standing::Protected(Arc::clone(&reason)));
        }
        let database = Glob::new(&pattern.database);
        self.patterns.push(Pattern {
            here: database.matches(self.database.as_bytes()),
            database,
            schema: Glob::new(&pattern.schema),
            table: Glob::new(&pattern.table),
            reason,
        });
    }

    /// True if a relation that is not plain has a name beyond ASCII. A text in an encoding of which
    /// the characters are not known writes such a name in bytes that are no UTF-8.
    pub(super) fn has_names_beyond_ascii(&self) -> bool {
        !matches!(self.not_ascii, Standing::Plain)
    }

    /// The names of all relations and functions that are not plain, for the matcher.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.by_name
            .iter()
            .filter(|(_, entries)| {
                entries
                    .iter()
                    .any(|entry| !matches!(entry.standing, Standing::Plain))
            })
            .map(|(name, _)| name)
            .chain(self.written.keys())
            .chain(self.functions.keys())
            .map(|name| &**name)
    }

    /// For each pattern, the longest run of characters that every name has which it matches, for
    /// the matcher. An empty one says that the pattern may match any name.
    pub(super) fn pattern_literals(&self) -> impl Iterator<Item = &[u8]> {
        self.patterns.iter().map(|pattern| pattern.table.literal())
    }

    /// All relations that were added: schema, name, standing.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Standing)> {
        self.by_name.iter().flat_map(|(name, entries)| {
            let name = std::str::from_utf8(name).unwrap_or_default();
            entries
                .iter()
                .map(move |entry| (&*entry.schema, name, &entry.standing))
        })
    }

    /// The relations among these that are protected: schema, name, reason.
    pub(super) fn protected(&self) -> impl Iterator<Item = (&str, &str, &Arc<Reason>)> {
        self.iter()
            .filter_map(|(schema, name, standing)| match standing {
                Standing::Protected(reason) => Some((schema, name, reason)),
                _ => None,
            })
    }

    /// Some reason why a statement that may read any relation reads a protected one; `None` if none
    /// is protected.
    pub(super) fn any_protected(&self) -> Option<Arc<Reason>> {
        let by_name = self.protected().map(|(_, _, reason)| reason).next();
        let by_pattern = || {
            let here = self.patterns.iter().find(|pattern| pattern.here);
            here.map(|pattern| &pattern.reason)
        };
        by_name.or_else(by_pattern).cloned()
    }

    /// How the relation that a query names stands.
    pub(super) fn resolve(&self, relation: &RelationName<'_>, names: &NameContext) -> Standing {
        let name = &*relation.name;
        if self.has_names_beyond_ascii() && std::str::from_utf8(name).is_err() {
            // It cannot be told which relation is meant, so it is taken for the gravest.
            return self.not_ascii.clone();
        }
        let reading = Reading {
            only: relation.only,
            unpoliced: self.unpoliced.contains(&*names.user),
        };
        match (&relation.database, &relation.schema) {
            (Some(database), Some(schema)) if **database != *self.database.as_bytes() => {
                self.external(database, schema, name)
            }
            (_, Some(schema)) => self.qualified(schema, name, reading),
            (_, None) => match &names.search_path {
                Some(path) => self.searched(path, &names.user, name, reading),
                None => self.anywhere(name, reading),
            },
        }
    }

    /// How an identifier stands that may be the name of a relation or function, or of neither. The
    /// gravest of what it may mean counts.
    pub(super) fn resolve_mention(&self, relation: &RelationName<'_>) -> Standing {
        let standing = self.resolve(relation, &NameContext::default());
        standing
            .or_graver(self.resolve_write(relation))
            .or_graver(self.resolve_call(relation))
    }

    /// How a relation stands that is written. Whatever the search path says, any relation of that
    /// name counts.
    pub(super) fn resolve_write(&self, relation: &RelationName<'_>) -> Standing {
        gravest(&self.written, relation)
    }

    /// How a function stands that is called. Which function of a name is meant depends on the
    /// arguments' types as much as on the search path, so any of that name counts.
    pub(super) fn resolve_call(&self, function: &RelationName<'_>) -> Standing {
        gravest(&self.functions, function)
    }

    /// How a function stands that is called by a name which one of PostgreSQL's functions has.
    /// `pg_catalog` is searched first, so that another can be meant only if it is on the search
    /// path and its arguments fit better.
    pub(super) fn resolve_own_call(
        &self,
        function: &RelationName<'_>,
        names: &NameContext,
    ) -> Standing {
        let entries = of_name(&self.functions, &function.name).iter();
        let is_searched = |entry: &&Entry| {
            names.search_path.as_ref().is_none_or(|path| {
                path.iter().any(|schema| {
                    *entry.schema == *schema || schema == "$user" && *entry.schema == *names.user
                })
            })
        };
        entries
            .filter(is_searched)
            .fold(Standing::Plain, |gravest, entry| {
                gravest.or_graver(entry.standing.clone())
            })
    }

    /// True if the strings in a call of this function, or what it makes of them, may be run as SQL.
    pub(super) fn may_run_text(&self, function: &RelationName<'_>) -> bool {
        self.run_no_text(function).next().is_none()
    }

    /// True if every function of this name does nothing but read.
    pub(super) fn only_reads(&self, function: &RelationName<'_>) -> bool {
        let mut functions = self.run_no_text(function).peekable();
        functions.peek().is_some() && functions.all(|function| function.only_reads)
    }

    /// What the call of this function may change for its session, and whether the route may be another
    /// one then, of whichever function of the name is meant.
    pub(super) fn sets(
        &self,
        function: &RelationName<'_>,
    ) -> impl Iterator<Item = (&[Change], bool)> {
        let functions = of_name(&self.setting, &function.name).iter();
        let meant = functions.filter(|known| may_be_in(&known.schema, function));
        meant.map(|known| (&*known.changes, known.route))
    }

    /// The functions that a call may mean, if none of them runs a text.
    fn run_no_text(&self, function: &RelationName<'_>) -> impl Iterator<Item = &RunsNoText> {
        let functions = of_name(&self.run_no_text, &function.name).iter();
        functions.filter(|known| may_be_in(&known.schema, function))
    }

    fn entries(&self, name: &[u8]) -> &[Entry] {
        of_name(&self.by_name, name)
    }

    /// `extdb.schema.table`: only a pattern can say that it is encrypted.
    fn external(&self, database: &[u8], schema: &[u8], name: &[u8]) -> Standing {
        self.patterns
            .iter()
            .find(|pattern| {
                pattern.database.matches(database)
                    && pattern.schema.matches(schema)
                    && pattern.table.matches(name)
            })
            .map_or(Standing::Foreign, |pattern| {
                Standing::Protected(Arc::clone(&pattern.reason))
            })
    }

    fn qualified(&self, schema: &[u8], name: &[u8], reading: Reading) -> Standing {
        if is_system_schema(schema) {
            return Standing::Plain;
        }
        let entry = self
            .entries(name)
            .iter()
            .find(|entry| is(&entry.schema, schema));
        let standing = entry.map_or(&Standing::Plain, |entry| entry.standing(reading));
        let schema = clip(schema);
        if let Standing::Protected(_) = standing {
            return standing.clone();
        }
        self.pattern(|pattern| pattern.schema.matches(schema), name)
            .unwrap_or_else(|| standing.clone())
    }

    fn searched(&self, path: &[String], user: &str, name: &[u8], reading: Reading) -> Standing {
        let entries = self.entries(name);
        let implicit = (!path.iter().any(|schema| schema == "pg_catalog")).then_some("pg_catalog");
        let schemas = implicit.into_iter().chain(path.iter().map(String::as_str));
        let barred = self.barred.get(user).map_or(&[][..], Vec::as_slice);
        for schema in schemas {
            let schema = if schema == "$user" { user } else { schema };
            if barred.iter().any(|barred| **barred == *schema) {
                continue;
            }
            // If any relation of this name is known, all of them are, so a schema for which none is
            // known has none. A name that is not known may exist in any schema where a pattern
            // matches.
            let known = entries.iter().any(|entry| *entry.schema == *schema);
            if known || (entries.is_empty() && !is_system_name(name)) {
                match self.qualified(schema.as_bytes(), name, reading) {
                    Standing::Plain if !known => {}
                    standing => return standing,
                }
            }
        }
        Standing::Plain
    }

    /// The search path is not certain: any relation of that name may be meant.
    fn anywhere(&self, name: &[u8], reading: Reading) -> Standing {
        let mut standings = self
            .entries(name)
            .iter()
            .map(|entry| entry.standing(reading));
        let protected = standings
            .clone()
            .find(|standing| matches!(standing, Standing::Protected(_)));
        if let Some(standing) = protected {
            return standing.clone();
        }
        if !is_system_name(name)
            && let Some(standing) = self.pattern(|_| true, name)
        {
            return standing;
        }
        if standings.any(|standing| matches!(standing, Standing::Foreign)) {
            Standing::Foreign
        } else {
            Standing::Plain
        }
    }

    fn pattern(&self, schema: impl Fn(&Pattern) -> bool, name: &[u8]) -> Option<Standing> {
        self.patterns
            .iter()
            .find(|pattern| pattern.here && schema(pattern) && pattern.table.matches(name))
            .map(|pattern| Standing::Protected(Arc::clone(&pattern.reason)))
    }
}

/// How a relation is read.
#[derive(Clone, Copy)]
struct Reading {
    /// Without what inherits from it.
    only: bool,
    /// By a role to which no policy applies.
    unpoliced: bool,
}

impl Entry {
    /// How it stands to who reads it so.
    fn standing(&self, reading: Reading) -> &Standing {
        if reading.only && self.inherited || reading.unpoliced && self.policed {
            &Standing::Plain
        } else {
            &self.standing
        }
    }
}

/// What bears a name that a text writes.
fn of_name<'a, T>(by_name: &'a ByName<T>, name: &[u8]) -> &'a [T] {
    let found = by_name.get(name).or_else(|| by_name.get(clip(name)));
    found.map_or(&[], Vec::as_slice)
}

/// True if a text that writes `written` means the schema.
fn is(schema: &str, written: &[u8]) -> bool {
    *schema.as_bytes() == *clip(written)
}

/// The gravest of what a name may mean.
fn gravest(by_name: &ByName<Entry>, name: &RelationName<'_>) -> Standing {
    let entries = of_name(by_name, &name.name).iter();
    let meant = entries.filter(|entry| may_be_in(&entry.schema, name));
    meant.fold(Standing::Plain, |gravest, entry| {
        gravest.or_graver(entry.standing.clone())
    })
}

/// True if a name may mean what is in this schema, whatever the search path says.
fn may_be_in(known: &str, name: &RelationName<'_>) -> bool {
    let schema = name.schema.as_deref();
    schema.is_none_or(|schema| is(known, schema))
}

fn insert(names: &mut ByName<Entry>, schema: &str, name: &str, standing: Standing) {
    let entries = names.entry(name.as_bytes().into()).or_default();
    if let Some(entry) = entries.iter_mut().find(|entry| *entry.schema == *schema) {
        let before = std::mem::replace(&mut entry.standing, Standing::Plain);
        entry.standing = before.or_graver(standing);
    } else {
        entries.push(Entry {
            schema: schema.into(),
            standing,
            inherited: false,
            policed: false,
        });
    }
}

/// Schemas of the server's own, and of temporary tables, which shadow and are never foreign.
fn is_system_schema(schema: &[u8]) -> bool {
    matches!(schema, b"pg_catalog" | b"information_schema")
        || schema.starts_with(b"pg_temp")
        || schema.starts_with(b"pg_toast")
}

/// Unqualified names of `pg_catalog`; patterns do not mean them.
fn is_system_name(name: &[u8]) -> bool {
    name.starts_with(b"pg_")
}
