//! CTEs: which names hide relations, and from where on.

use super::{Frame, K, Kind, MAX_CTES, State, Walk};

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
        if self.ctes.len() < MAX_CTES {
            self.ctes.push(self.statement.folded(name));
        } else {
            self.too_many_ctes = true;
        }
    }
}

fn starts_statement(keyword: K) -> bool {
    matches!(
        keyword,
        K::Select | K::Insert | K::Update | K::Delete | K::Merge | K::Values | K::Table | K::With
    )
}
