//! What a session has made and dropped that the catalogs do not say yet.

use std::sync::Arc;

use super::names::{NameContext, clip};
use super::reason::Reason;
use crate::sql::WrittenName;

/// Where a relation or function leads that a session has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Not to MaxCompute.
    Nowhere,
    /// To MaxCompute data that is not known to be encrypted.
    ToMaxCompute,
    /// To encrypted data.
    ToProtected(Arc<Reason>),
}

impl Leads {
    fn weight(&self) -> u8 {
        match self {
            Self::Nowhere => 0,
            Self::ToMaxCompute => 1,
            Self::ToProtected(_) => 2,
        }
    }
}

/// So many names are remembered; by then the catalogs have told of the first of them.
const MAX_OWN: usize = 1_000;

/// A temporary relation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Temporary {
    name: String,
    leads: Leads,
    until_commit: bool,
    /// It is a view, which is gone with what it reads.
    stored: bool,
}

/// The schema of a session's own relations and functions.
const TEMPORARY: &str = "pg_temp";

/// What a session has made and dropped since the catalogs were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Own {
    temporary: Vec<Temporary>,
    /// What is the first of its name by a search path.
    first: Vec<(NameContext, String, Leads)>,
    made: Vec<(WrittenName, Leads)>,
    dropped: Vec<String>,
    replaced: Vec<WrittenName>,
    anything: bool,
    /// Relations that are not named here may have been made, or lead elsewhere.
    others: bool,
}

impl Own {
    /// True if every name leads where the catalogs say.
    pub(super) fn is_empty(&self) -> bool {
        self.temporary.is_empty()
            && self.first.is_empty()
            && self.made.is_empty()
            && self.dropped.is_empty()
            && self.replaced.is_empty()
            && !(self.anything || self.others)
    }

    /// False if a relation may lead elsewhere than the catalogs say that is not named here.
    pub(super) fn names_all(&self) -> bool {
        let are_all = self.made.len() < MAX_OWN && self.dropped.len() < MAX_OWN;
        are_all && !(self.anything || self.others)
    }

    /// True if every name that leads to MaxCompute does so by the catalogs, too.
    pub(super) fn adds_nothing(&self) -> bool {
        let nowhere = |leads: &Leads| *leads == Leads::Nowhere;
        self.made.iter().all(|(_, leads)| nowhere(leads))
            && self.temporary.iter().all(|one| nowhere(&one.leads))
    }

    /// The same with what others have made and dropped since the catalogs were read.
    pub(super) fn with(&self, others: &Self) -> Self {
        let mut all = self.clone();
        for made in &others.made {
            remember(&mut all.made, made.clone());
        }
        for dropped in &others.dropped {
            remember(&mut all.dropped, dropped.clone());
        }
        for replaced in &others.replaced {
            remember(&mut all.replaced, replaced.clone());
        }
        all
    }

    /// Where the session's temporary relation of this name leads, if there is one.
    pub(super) fn temporary(&self, name: &[u8]) -> Option<&Leads> {
        let name = clip(name);
        let mut found = self.temporary.iter();
        found
            .find(|one| one.name.as_bytes() == name)
            .map(|one| &one.leads)
    }

    /// Where the relation leads that a bare name means by this path, if the session has made it.
    pub(super) fn first(&self, names: &NameContext, name: &[u8]) -> Option<&Leads> {
        let name = clip(name);
        let mut found = self.first.iter();
        names.search_path.as_ref()?;
        found
            .find(|(by, known, _)| known.as_bytes() == name && by == names)
            .map(|(_, _, leads)| leads)
    }

    /// Where the relations and functions lead that the session has made and that this name may
    /// mean, where bare ones resolve so.
    pub(super) fn made(
        &self,
        schema: Option<&[u8]>,
        name: &[u8],
        names: &NameContext,
    ) -> impl Iterator<Item = &Leads> {
        let meant = self.made.iter().filter(move |((its_schema, its_name), _)| {
            let is_there = |its_schema: &str| match schema {
                Some(schema) => its_schema.as_bytes() == schema,
                // A schema may be called otherwise by now, or be the session's own.
                None => self.anything || its_schema == TEMPORARY || names.may_find_in(its_schema),
            };
            its_name.as_bytes() == name && its_schema.as_deref().is_none_or(is_there)
        });
        meant.map(|(_, leads)| leads)
    }

    /// True if a name may mean any relation that bears it, whatever the search path says.
    pub(super) fn is_open(&self, name: &[u8]) -> bool {
        self.anything || self.dropped.iter().any(|known| known.as_bytes() == name)
    }

    /// True if what the catalogs say of this relation holds no longer.
    pub(super) fn is_replaced(&self, schema: Option<&[u8]>, name: &[u8]) -> bool {
        let is_it = |(its_schema, its_name): &WrittenName| {
            its_name.as_bytes() == name && its_schema.as_deref().map(str::as_bytes) == schema
        };
        schema.is_some() && self.replaced.iter().any(is_it)
    }

    /// True if a schema that is written in front of a name may not be the one that the catalogs
    /// know.
    pub(super) fn any_schema(&self) -> bool {
        self.anything
    }

    /// Of which nothing is known.
    pub(super) fn unknown() -> Self {
        Self {
            anything: true,
            ..Self::default()
        }
    }

    /// What may have been made and dropped by now, of which only this is known that may be there.
    pub(super) fn perhaps(&self) -> Self {
        let mut perhaps = Self {
            made: self.made.clone(),
            temporary: self.temporary.clone(),
            ..Self::unknown()
        };
        perhaps.all_may_be_gone();
        perhaps
    }

    /// What is so called leads there from now on, and by this path is the first of its name.
    pub(super) fn make_first(&mut self, by: &NameContext, name: &str, leads: &Leads) {
        let name = cut(name);
        self.first.retain(|(_, known, _)| *known != name);
        remember(&mut self.first, (by.clone(), name, leads.clone()));
    }

    /// A relation or function of this name leads there from now on.
    pub(super) fn make(&mut self, name: &WrittenName, leads: &Leads) {
        // What is the first of its name may be this one.
        let cut = cut(&name.1);
        let same = self.first.iter_mut().filter(|(_, known, _)| *known == cut);
        for (_, _, known) in same.filter(|(.., known)| known.weight() < leads.weight()) {
            known.clone_from(leads);
        }
        remember(&mut self.made, (name.clone(), leads.clone()));
    }

    /// A temporary relation of this name leads there from now on. One that was there may be so still
    /// (IF NOT EXISTS).
    pub(super) fn make_temporary(
        &mut self,
        name: &str,
        leads: &Leads,
        until_commit: bool,
        stored: bool,
    ) {
        let name = cut(name);
        if let Some(known) = self.temporary.iter_mut().find(|one| one.name == name) {
            if known.leads.weight() < leads.weight() {
                known.leads = leads.clone();
            }
        } else if self.temporary.len() < MAX_OWN {
            // One that is not remembered hides no other, which errs on the safe side.
            self.temporary.push(Temporary {
                name,
                leads: leads.clone(),
                until_commit,
                stored,
            });
        }
    }

    /// What is so called was dropped, with `cascade` together with what reads it.
    pub(super) fn drop(&mut self, schema: Option<&str>, name: &str, cascade: bool) {
        let cut = cut(name);
        self.first.retain(|(_, known, _)| *known != cut);
        let before = self.temporary.len();
        if schema.is_none_or(|schema| schema == TEMPORARY) {
            self.temporary.retain(|one| one.name != cut);
        }
        if self.temporary.len() == before {
            // What was made by this whole name is what is gone.
            let is_it = |(its_schema, its_name): &WrittenName| {
                schema.is_some() && its_schema.as_deref() == schema && its_name == name
            };
            self.made.retain(|(made, _)| !is_it(made));
            remember(&mut self.dropped, name.to_owned());
        }
        if cascade {
            self.may_be_gone(|one| one.stored);
        }
    }

    /// What the catalogs say of this relation holds no longer.
    pub(super) fn replace(&mut self, name: &WrittenName) {
        remember(&mut self.replaced, name.clone());
    }

    /// Relations that are not named here may lead elsewhere.
    pub(super) fn others_changed(&mut self) {
        self.others = true;
    }

    /// Anything may have been made and dropped.
    pub(super) fn anything_changed(&mut self) {
        self.all_may_be_gone();
        self.anything = true;
    }

    /// Whatever is there may have been dropped.
    pub(super) fn all_may_be_gone(&mut self) {
        self.may_be_gone(|_| true);
    }

    /// Temporary relations of which this is so hide nothing any more, and may be there all the same; and
    /// nothing else is certain to be the first of its name.
    fn may_be_gone(&mut self, gone: impl Fn(&Temporary) -> bool) {
        self.first.clear();
        let (gone, stay) = std::mem::take(&mut self.temporary)
            .into_iter()
            .partition(gone);
        self.temporary = stay;
        let gone: Vec<Temporary> = gone;
        for one in gone {
            if one.leads != Leads::Nowhere {
                let name = (Some(TEMPORARY.to_owned()), one.name);
                remember(&mut self.made, (name, one.leads));
            }
        }
    }

    /// All temporary relations were dropped.
    pub(super) fn discard_temporary(&mut self) {
        self.temporary.clear();
    }

    /// True if something is dropped at the end of the transaction.
    pub(super) fn ends_with_transaction(&self) -> bool {
        self.temporary.iter().any(|one| one.until_commit)
    }

    /// The transaction is over, or none was open.
    pub(super) fn end_transaction(&mut self) {
        self.temporary.retain(|one| !one.until_commit);
    }

    /// The catalogs have been read since, and say all but what is temporary.
    pub(super) fn catalogs_were_read(&mut self) {
        self.made
            .retain(|((schema, _), _)| schema.as_deref() == Some(TEMPORARY));
        self.first.clear();
        self.dropped.clear();
        self.replaced.clear();
        self.anything = false;
        self.others = false;
    }
}

/// A name as the server keeps it.
fn cut(name: &str) -> String {
    String::from_utf8_lossy(clip(name.as_bytes())).into_owned()
}

fn remember<T: PartialEq>(known: &mut Vec<T>, new: T) {
    known.retain(|old| *old != new);
    if known.len() == MAX_OWN {
        known.remove(0);
    }
    known.push(new);
}
