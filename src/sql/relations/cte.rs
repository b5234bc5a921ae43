//! CTEs: the names that hide relations, and where those stand in a WITH.

use std::borrow::Cow;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::super::keyword::Keyword;
use super::super::lexer::Kind;
use super::super::token::Statement;

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
    /// How many are in sight.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// True if an unqualified name means one of them.
    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let mut few = self.names.iter().take(FEW);
        few.any(|known| **known == *name) || self.many.contains_key(name)
    }

    /// One more is in sight.
    pub(super) fn push(&mut self, name: Cow<'a, [u8]>) {
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

/// The bracket that opens a CTE's body, if `name [(columns)] AS [[NOT] MATERIALIZED] (` stands at
/// `name`.
pub(super) fn body(statement: &Statement<'_, '_>, name: usize) -> Option<usize> {
    if !statement.is_name(name) {
        return None;
    }
    let mut index = name + 1;
    if statement.is_open(index) {
        index = statement.after(index);
    }
    if statement.keyword(index) != Keyword::As {
        return None;
    }
    index += 1;
    while matches!(
        statement.keyword(index),
        Keyword::Not | Keyword::Materialized
    ) {
        index += 1;
    }
    statement.is_open(index).then_some(index)
}

/// Where the names stand of all CTEs in the list that begins at `name`, the first of which has its
/// body behind the bracket `open`.
pub(super) fn names(statement: &Statement<'_, '_>, name: usize, open: usize) -> Vec<usize> {
    let mut names = vec![name];
    let mut index = statement.after(open);
    // SEARCH and CYCLE clauses may stand between the body and the comma.
    while index < statement.len() && !starts_statement(statement.keyword(index)) {
        let next = statement.after(index);
        if statement.kind(index) == Some(Kind::Comma)
            && let Some(open) = body(statement, next)
        {
            names.push(next);
            index = statement.after(open);
        } else if statement.is_open(index) {
            break;
        } else {
            index = next;
        }
    }
    names
}

fn starts_statement(keyword: Keyword) -> bool {
    use Keyword as K;
    matches!(
        keyword,
        K::Select | K::Insert | K::Update | K::Delete | K::Merge | K::Values | K::Table | K::With
    )
}
