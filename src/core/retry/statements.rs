//! Which prepared statements the kept part of a session made, and which it found: a second run meets
//! the latter as they are by then.

use std::hash::BuildHasher;

/// Whose a prepared statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// Parsed, or closed, within the kept part.
    Own,
    /// From before, and used by the kept part.
    Before,
}

/// The prepared statements that the kept part has named. A name is its hash: two that have the same are
/// taken for one, and then at worst something is not run again.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// The first one; most cycles name no other.
    first: Option<(u64, Whose)>,
    others: Vec<(u64, Whose)>,
}

fn hash(name: &[u8]) -> u64 {
    foldhash::fast::FixedState::default().hash_one(name)
}

impl Statements {
    /// One is bound, described.
    pub(super) fn uses(&mut self, name: &[u8]) {
        self.whose(hash(name), Whose::Before);
    }

    /// One is parsed, or closed. True if it is from before and was used: a second run would find the
    /// new one in its place.
    pub(super) fn replaces(&mut self, name: &[u8]) -> bool {
        self.whose(hash(name), Whose::Own) == Whose::Before
    }

    /// Whose it is; if it is new, as given.
    fn whose(&mut self, name: u64, new: Whose) -> Whose {
        let mut known = self.first.iter().chain(&self.others);
        if let Some((_, whose)) = known.find(|(known, _)| *known == name) {
            return *whose;
        }
        match self.first {
            None => self.first = Some((name, new)),
            Some(_) => self.others.push((name, new)),
        }
        new
    }
}
