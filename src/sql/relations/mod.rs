//! The walk through a query that finds the relations it reads.
//!
//! A pushdown automaton over the significant tokens: one frame per open bracket, each knowing
//! whether a relation may stand next. The stack is on the heap and every token is visited once, so
//! neither deep nesting nor length is a danger. Names of CTEs hide relations exactly where
//! PostgreSQL lets them: behind their own body (WITH), in the whole list (WITH RECURSIVE), never
//! beyond the query that the WITH belongs to, never for a qualified name, never for a target.

mod cte;

use cte::Ctes;

use super::analysis::{Analysis, Made, MadeFrom};
use super::effects::Effects;
use super::function;
use super::keyword::Keyword as K;
use super::lexer::Kind;
use super::relation_name::{last_part, relation_name};
use super::token::Statement;

/// What may stand next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A query or statement.
    Start,
    /// A query or statement, after words that do not matter: CTE lists, targets of INSERT.
    Await,
    /// The parts of an expression.
    Expression,
    /// A FROM item.
    Item,
    /// The alias of a FROM item, a join, a comma.
    Alias,
    /// A join condition, a join, a comma.
    Condition,
    /// The target of INSERT or SELECT INTO: written, not read.
    WriteTarget,
    /// The target of UPDATE, DELETE or MERGE: read as well.
    ReadTarget,
}

/// One open bracket, or the whole statement.
#[derive(Debug, Clone, Copy)]
struct Frame {
    state: State,
    /// A FROM here begins a FROM list; it does not in `extract(year FROM x)`.
    query: bool,
    /// Brackets around FROM items.
    items: bool,
    /// INSERT, UPDATE, DELETE and MERGE may begin here: a statement or the body of a CTE.
    body: bool,
    /// Inside DELETE or MERGE, before its USING.
    before_using: bool,
    merge: bool,
    select_into: bool,
    into_temporary: bool,
    recursive: bool,
    /// CTEs in sight when the bracket opened; the rest goes out of sight when it closes.
    ctes: usize,
    /// CTEs in sight at the target of an INSERT: those of its query go out of sight at ON CONFLICT
    /// and RETURNING.
    insert_ctes: Option<usize>,
    /// The bracket is the body of the CTE named by this token.
    cte: Option<usize>,
}

impl Frame {
    fn new(state: State, ctes: usize) -> Self {
        Self {
            state,
            query: false,
            items: false,
            body: false,
            before_using: false,
            merge: false,
            select_into: false,
            into_temporary: false,
            recursive: false,
            ctes,
            insert_ctes: None,
            cte: None,
        }
    }
}

/// Walks through the tokens in `range`, a query or another statement that EXPLAIN takes.
pub(super) fn walk<'a>(
    statement: &Statement<'_, 'a>,
    range: std::ops::Range<usize>,
    analysis: &mut Analysis<'a>,
) {
    let mut root = Frame::new(State::Start, 0);
    root.body = true;
    let mut walk = Walk {
        statement,
        analysis,
        stack: Vec::new(),
        frame: root,
        ctes: Ctes::default(),
        label: None,
    };
    let mut index = range.start;
    while index < range.end {
        index = walk.step(index);
    }
}

struct Walk<'w, 't, 'a> {
    statement: &'w Statement<'t, 'a>,
    analysis: &'w mut Analysis<'a>,
    stack: Vec<Frame>,
    frame: Frame,
    ctes: Ctes<'a>,
    /// The last word that is a name by where it stands.
    label: Option<usize>,
}

impl Walk<'_, '_, '_> {
    /// Takes the token at `index` and answers the next one to take.
    fn step(&mut self, index: usize) -> usize {
        match self.statement.kind(index) {
            Some(Kind::Open) => {
                self.open();
                return index + 1;
            }
            Some(Kind::Close) => {
                self.close();
                return index + 1;
            }
            Some(Kind::Comma) => return self.comma(index),
            _ => {}
        }
        if self.is_label(index) {
            self.label = Some(index);
        } else if let Some(next) = self.keyword(index) {
            return next;
        }
        match self.frame.state {
            State::Start => {
                self.frame.state = State::Expression;
                self.step(index)
            }
            State::Item | State::WriteTarget | State::ReadTarget => self.name(index),
            State::Expression | State::Condition => {
                self.call(index);
                index + 1
            }
            State::Await | State::Alias => index + 1,
        }
    }

    fn open(&mut self) {
        let state = match self.frame.state {
            State::Item | State::WriteTarget | State::ReadTarget => State::Item,
            _ => State::Start,
        };
        match self.frame.state {
            State::Item => self.frame.state = State::Alias,
            State::WriteTarget | State::ReadTarget => self.after_target(),
            _ => {}
        }
        let mut inner = Frame::new(state, self.ctes.len());
        inner.items = state == State::Item;
        inner.body = self.frame.body && self.frame.state == State::Start;
        self.push(inner);
    }

    fn push(&mut self, inner: Frame) {
        self.stack.push(std::mem::replace(&mut self.frame, inner));
    }

    fn close(&mut self) {
        let Some(outer) = self.stack.pop() else {
            return;
        };
        let inner = std::mem::replace(&mut self.frame, outer);
        self.ctes.truncate(inner.ctes);
        if let Some(name) = inner.cte
            && !self.frame.recursive
        {
            self.remember_cte(name);
        }
    }

    fn comma(&mut self, index: usize) -> usize {
        match self.frame.state {
            State::Alias | State::Condition => self.frame.state = State::Item,
            State::Await => {
                if let Some(open) = cte::body(self.statement, index + 1) {
                    return self.enter_cte(index + 1, open);
                }
            }
            _ => {}
        }
        index + 1
    }

    /// A word behind a dot or an AS is a name, whatever it says: AS itself, too.
    fn is_label(&self, index: usize) -> bool {
        index > 0
            && (self.statement.kind(index - 1) == Some(Kind::Dot)
                || self.statement.keyword(index - 1) == K::As
                    && self.label != Some(index - 1)
                    && self.frame.state != State::Start)
    }

    /// `ON CONFLICT [(…)] DO …`, `ON CONFLICT ON CONSTRAINT …`; a column may have that name.
    fn is_on_conflict(&self, index: usize) -> bool {
        self.frame.insert_ctes.is_some()
            && self.statement.keyword(index + 1) == K::Conflict
            && (self.statement.is_open(index + 2)
                || self.statement.keyword(index + 2) == K::On
                || self.statement.is_word(index + 2, "do"))
    }

    /// Acts on the keyword at `index`, if it is one that matters here.
    fn keyword(&mut self, index: usize) -> Option<usize> {
        let keyword = self.statement.keyword(index);
        if keyword == K::None {
            return None;
        }
        let state = self.frame.state;
        let starting = matches!(state, State::Start | State::Await);
        let in_from = matches!(state, State::Item | State::Alias | State::Condition);
        match keyword {
            K::Select => self.query(State::Expression),
            K::Values if starting || state == State::Item && self.statement.is_open(index + 1) => {
                self.query(State::Expression);
            }
            K::Table if starting || state == State::Item => self.query(State::Item),
            K::Table | K::Only | K::Overwrite | K::Into | K::From
                if self.is_before_target(keyword, index) => {}
            K::With => return self.with(index),
            K::Insert | K::Update | K::Delete | K::Merge if starting && self.frame.body => {
                self.change(keyword, index);
            }
            K::All | K::Distinct if state == State::Start => {}
            K::From if state == State::Item && self.statement.keyword(index - 1) == K::Rows => {}
            K::From if self.frame.query && !self.is_distinct_from(index) => {
                self.frame.state = State::Item;
            }
            K::Rows if state == State::Item && self.statement.keyword(index + 1) == K::From => {}
            K::Lateral | K::Only if state == State::Item => {}
            K::Join if self.frame.query || self.frame.items => self.frame.state = State::Item,
            K::Using if self.frame.before_using => {
                self.frame.before_using = false;
                self.frame.state = State::Item;
            }
            K::On if self.is_on_conflict(index) => self.end_insert(),
            K::On if state == State::Alias => self.frame.state = State::Condition,
            K::Union | K::Intersect | K::Except => self.query(State::Start),
            K::Into if self.frame.query && !self.frame.merge => self.select_into(),
            K::When if self.frame.merge => self.frame.state = State::Expression,
            K::For if self.frame.query => {
                self.lock(index);
                self.frame.state = State::Expression;
            }
            K::Returning => self.end_insert(),
            K::Where
            | K::Group
            | K::Having
            | K::Window
            | K::Order
            | K::Limit
            | K::Offset
            | K::Fetch
                if in_from || state == State::Await && self.frame.query =>
            {
                self.frame.state = State::Expression;
            }
            _ => return None,
        }
        Some(index + 1)
    }

    /// `WITH [RECURSIVE] name … AS … (`; any other WITH (ORDINALITY, TIES, …) is not acted on.
    fn with(&mut self, index: usize) -> Option<usize> {
        // A CTE may have that name.
        let recursive = self.statement.keyword(index + 1) == K::Recursive
            && self.statement.keyword(index + 2) != K::As;
        let name = index + 1 + usize::from(recursive);
        let open = cte::body(self.statement, name)?;
        self.frame.recursive = recursive;
        if recursive {
            // All names of a WITH RECURSIVE are in sight in all of its bodies.
            for name in cte::names(self.statement, name, open) {
                self.remember_cte(name);
            }
        }
        Some(self.enter_cte(name, open))
    }

    fn enter_cte(&mut self, name: usize, open: usize) -> usize {
        self.frame.state = State::Await;
        let mut body = Frame::new(State::Start, self.ctes.len());
        body.body = true;
        body.cte = Some(name);
        self.push(body);
        open + 1
    }

    fn remember_cte(&mut self, name: usize) {
        self.ctes.push(self.statement.folded(name));
    }

    fn query(&mut self, state: State) {
        self.frame.query = true;
        self.frame.state = state;
    }

    /// INSERT, UPDATE, DELETE, MERGE. What INSERT OVERWRITE replaces may be gone before it fails.
    fn change(&mut self, keyword: K, index: usize) {
        let overwrites = self.statement.keyword(index + 1) == K::Overwrite;
        self.analysis.add(if overwrites {
            Effects::WRITES
        } else {
            Effects::UNDONE_WHOLE
        });
        self.frame.state = match keyword {
            K::Insert => {
                self.frame.insert_ctes = Some(self.ctes.len());
                State::WriteTarget
            }
            _ => State::ReadTarget,
        };
        self.frame.before_using = matches!(keyword, K::Delete | K::Merge);
        self.frame.merge = keyword == K::Merge;
    }

    /// `SELECT … INTO`
    fn select_into(&mut self) {
        self.analysis
            .add(Effects::WRITES.union(Effects::CHANGES_CATALOG));
        self.frame.select_into = true;
        self.frame.state = State::WriteTarget;
    }

    /// Words between INSERT, DELETE, MERGE or INTO and the target's name. `OVERWRITE` is Hologres'
    /// `INSERT OVERWRITE [INTO] [TABLE] t`.
    fn is_before_target(&self, keyword: K, index: usize) -> bool {
        matches!(self.frame.state, State::WriteTarget | State::ReadTarget)
            && (keyword != K::Overwrite || self.statement.keyword(index - 1) == K::Insert)
    }

    fn after_target(&mut self) {
        let was_select_into = std::mem::take(&mut self.frame.select_into);
        let state = self.frame.state;
        self.frame.query = state == State::ReadTarget || was_select_into;
        self.frame.state = match state {
            State::WriteTarget if was_select_into => State::Expression,
            State::WriteTarget => State::Await,
            _ if self.frame.before_using => State::Alias,
            _ => State::Expression,
        };
    }

    /// `a IS [NOT] DISTINCT FROM b`
    fn is_distinct_from(&self, index: usize) -> bool {
        index > 1
            && self.statement.keyword(index - 1) == K::Distinct
            && matches!(self.statement.keyword(index - 2), K::Is | K::Not)
    }

    /// `FOR UPDATE`, `FOR NO KEY UPDATE`, `FOR SHARE`, `FOR KEY SHARE`
    fn lock(&mut self, index: usize) {
        if matches!(
            self.statement.keyword(index + 1),
            K::Update | K::No | K::Share | K::Key
        ) {
            self.analysis.add(Effects::WRITES);
        }
    }

    /// The CTEs of an INSERT's query do not reach its ON CONFLICT and RETURNING.
    fn end_insert(&mut self) {
        self.frame.state = State::Expression;
        if let Some(ctes) = self.frame.insert_ctes {
            self.ctes.truncate(ctes);
        }
    }

    /// A relation's or a function's name in a FROM list, or a target.
    fn name(&mut self, index: usize) -> usize {
        let statement = self.statement;
        let keyword = statement.keyword(index);
        if self.frame.select_into && self.is_into_modifier(index) {
            if matches!(keyword, K::Temp | K::Temporary) {
                self.analysis.add(Effects::CHANGES_NAMES);
                self.frame.into_temporary = true;
            }
            return index + 1;
        }
        if !statement.is_name(index) || keyword.is_reserved() {
            // Not SQL as PostgreSQL knows it; whatever follows is looked at as an expression's
            // parts, in which FROM and JOIN are still seen.
            self.frame.state = State::Alias;
            return index + 1;
        }
        let last = last_part(statement, index);
        self.label = Some(last);
        match self.frame.state {
            State::Item if statement.bytes(last + 1) == b"(" => {
                self.call(last);
                self.frame.state = State::Alias;
            }
            State::Item => {
                self.read(index, last);
                self.frame.state = State::Alias;
            }
            state => {
                let target = relation_name(statement, index, last);
                if state == State::ReadTarget {
                    self.analysis.reads.extend(target.clone());
                }
                if self.frame.select_into {
                    // Only a SELECT makes a relation by INTO.
                    let target = target.filter(|_| !is_change(statement.keyword(0)));
                    self.analysis.made.extend(target.map(|target| Made {
                        name: target.written(),
                        first: !self.frame.into_temporary && target.schema.is_none(),
                        temporary: self.frame.into_temporary,
                        until_commit: false,
                        origin: MadeFrom::Rows,
                    }));
                } else {
                    self.analysis.writes.extend(target);
                }
                self.after_target();
            }
        }
        last + 1
    }

    /// `INTO [TEMPORARY | TEMP | UNLOGGED] [TABLE] name`
    fn is_into_modifier(&self, index: usize) -> bool {
        matches!(
            self.statement.keyword(index),
            K::Temp | K::Temporary | K::Unlogged | K::Local
        ) && self.statement.kind(index + 1) == Some(Kind::Word)
            && self.statement.keyword(index + 1) != K::From
    }

    fn read(&mut self, first: usize, last: usize) {
        let Some(relation) = relation_name(self.statement, first, last) else {
            return;
        };
        let hidden = relation.schema.is_none() && self.ctes.contains(&relation.name);
        if !hidden {
            self.analysis.reads.push(relation);
        }
    }

    /// A function call, if the word at `index` is one.
    fn call(&mut self, index: usize) {
        if self.statement.is_name(index) && self.statement.bytes(index + 1) == b"(" {
            function::call(self.statement, index, self.analysis);
        }
    }
}

fn is_change(keyword: K) -> bool {
    matches!(keyword, K::Insert | K::Update | K::Delete | K::Merge)
}
