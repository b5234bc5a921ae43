//! CTEs: which names hide relations, and from where on.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Frame, K, Kind, State, Walk};

/// Up to so many names it takes less time to look at each.
const FEW: usize = 16;

/// The names of the CTEs in sight, in the order in which they came.
#[derive(Default)]
pub(super) struct Ctes<'a> {
    names: Vec<Cow<'a, [u8]>>,
    /// How often each of the names behind the first few is among them.
    many: HashMap<Cow<'a, [u8]>, u32, RandomState>,
}

impl<'a> Ctes<'a> {
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let mut few = self.names.iter().take(FEW);
        few.any(|known| **known == *name) || self.many.contains_key(name)
    }

    fn push(&mut self, name: Cow<'a, [u8]>) {
        if self.names.len() >= FEW {
            *self.many.entry(name.clone()).or_default() += 1;
        }
        self.names.push(name);
    }

    /// Only the first `len` stay in sight.
    pub(super) fn truncate(&mut self, len: usize) {
        while self.names.len() > len {
            let Some(name) = self.names.pop() else { return };
            if self.names.len() >= FEW
                && let Some(count) = self.many.get_mut(&name)
            {
                *count -= 1;
                if *count == 0 {
                    self.many.remove(&name);
                }
            }
        }
    }
}

impl Walk<'_, '_, '_> {
    /// `WITH [RECURSIVE] name … AS … (`; any other WITH (ORDINALITY, TIES, …) is not acted on.
    pub(super) fn with(&mut self, index: usize) -> Option<usize> {
        let recursive = self.statement.keyword(index + 1) == K::Recursive;
        let name = index + 1 + usize::from(recursive);
        let open = self.cte_body(name)?;
        self.frame.recursive = recursive;
        if recursive {
            self.remember_all_ctes(name, open);
        }
        Some(self.enter_cte(name, open))
    }

    /// The bracket of the body, if `name [(columns)] AS [[NOT] MATERIALIZED] (` is at `name`.
    pub(super) fn cte_body(&self, name: usize) -> Option<usize> {
        let statement = self.statement;
        if !statement.is_name(name) {
            return None;
        }
        let mut index = name + 1;
        if statement.is_open(index) {
            index = statement.after(index);
        }
        if statement.keyword(index) != K::As {
            return None;
        }
        index += 1;
        while matches!(statement.keyword(index), K::Not | K::Materialized) {
            index += 1;
        }
        statement.is_open(index).then_some(index)
    }

    pub(super) fn enter_cte(&mut self, name: usize, open: usize) -> usize {
        self.frame.state = State::Await;
        let mut body = Frame::new(State::Start, self.ctes.len());
        body.body = true;
        body.cte = Some(name);
        self.push(body);
        open + 1
    }

    /// All names of a WITH RECURSIVE are in sight in all of its bodies.
    fn remember_all_ctes(&mut self, name: usize, open: usize) {
        self.remember_cte(name);
        let mut index = self.statement.after(open);
        // SEARCH and CYCLE clauses may stand between the body and the comma.
        while index < self.statement.len() && !starts_statement(self.statement.keyword(index)) {
            let next = self.statement.after(index);
            if self.statement.kind(index) == Some(Kind::Comma)
                && let Some(open) = self.cte_body(next)
            {
                self.remember_cte(next);
                index = self.statement.after(open);
            } else if self.statement.is_open(index) {
                return;
            } else {
                index = next;
            }
        }
    }

    pub(super) fn remember_cte(&mut self, name: usize) {
        self.ctes.push(self.statement.folded(name));
    }
}

fn starts_statement(keyword: K) -> bool {
    matches!(
        keyword,
        K::Select | K::Insert | K::Update | K::Delete | K::Merge | K::Values | K::Table | K::With
    )
}
