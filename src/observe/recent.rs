//! The errors that were rewritten last, for people. Of the statements themselves nothing is kept.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// So many are kept.
const KEPT: usize = 50;

/// One error that a client got with advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// When.
    pub at: SystemTime,
    /// The stable code.
    pub code: &'static str,
    /// Whose.
    pub user: String,
    /// The database, without `@warehouse`.
    pub database: String,
    /// The relation, if it is known which one.
    pub relation: Option<String>,
    /// The MaxCompute project, if it is known.
    pub project: Option<String>,
    /// Why the statement was not run again; `None`: it was, or that would not have helped.
    pub not_retried: Option<&'static str>,
}

/// The errors that were rewritten last. Takes a lock: for what happens rarely.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Rewritten>>);

impl Recent {
    /// One more.
    pub fn add(&self, rewritten: Rewritten) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(rewritten);
    }

    /// All that are kept, the last one first.
    pub fn list(&self) -> Vec<Rewritten> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let recent = Recent::default();
        for number in 0..=KEPT {
            recent.add(Rewritten {
                at: SystemTime::UNIX_EPOCH,
                code: "OSP-1001",
                user: number.to_string(),
                database: "dw".into(),
                relation: None,
                project: None,
                not_retried: None,
            });
        }
        let users: Vec<_> = recent.list().into_iter().map(|one| one.user).collect();
        assert_eq!(users.len(), KEPT);
        assert_eq!((users[0].as_str(), users[KEPT - 1].as_str()), ("50", "1"));
    }
}
