//! Queries: `SELECT`, and what SHOW has in common with it.

use super::Parser;
use crate::config::nearest;
use crate::console::driver;
use crate::console::error::Error;
use crate::console::lexer::Token;
use crate::console::statement::{
    Comparison, Condition, Output, Select, Statement, Subject, Test, What,
};
use crate::console::table::{Described, Table};
use crate::console::tables::{TABLES, named};
use crate::console::value::Type;

impl Parser<'_> {
    pub(super) fn select(&mut self, place: usize, user: &str) -> Result<Statement, Error> {
        let from = self.from();
        let table = from.and_then(|from| self.table_at(from));
        let Some((table, behind)) = table else {
            let words = &self.words[self.at - 1..];
            if driver::is_about_catalogs(words) {
                self.skip_the_rest();
                let (columns, rows) = driver::catalog(words);
                return Ok(Statement::Rows { columns, rows });
            }
            if let Some(from) = from {
                let (token, at) = &self.words[(from + 1).min(self.words.len() - 1)];
                return Err(no_relation(token, *at));
            }
            let (columns, rows) = driver::constants(&self.words[self.at..], place, user)?;
            self.skip_the_rest();
            return Ok(Statement::Rows { columns, rows });
        };
        let columns = self.outputs(table)?;
        self.expect("from")?;
        self.at = behind;
        // An alias, which columns may be qualified by.
        let _ = self.word("as");
        let clause = ["where", "order", "limit", "offset"];
        if let Some(Token::Name { text, .. }) = self.peek()
            && !clause.contains(&text.as_str())
        {
            if ["group", "having", "join", "inner", "left", "cross", "union"]
                .contains(&text.as_str())
            {
                return Err(self.not_done());
            }
            self.at += 1;
        }
        self.rest_of_select(table, columns, Vec::new())
    }

    /// Where FROM stands, outside of parentheses.
    fn from(&self) -> Option<usize> {
        let mut depth = 0;
        (self.at..self.words.len()).find(|&at| {
            let token = &self.words[at].0;
            depth += i32::from(token.is_symbol("(")) - i32::from(token.is_symbol(")"));
            depth == 0 && token.is_word("from")
        })
    }

    /// The table whose name stands behind FROM, and what stands behind that.
    fn table_at(&self, from: usize) -> Option<(&'static Table, usize)> {
        let name = |at: usize| match self.words.get(at) {
            Some((Token::Name { text, .. }, _)) => Some(text.as_str()),
            _ => None,
        };
        let dot = self
            .words
            .get(from + 2)
            .is_some_and(|(token, _)| token.is_symbol("."));
        let schema = if dot { name(from + 1) } else { None };
        match schema {
            None => Some((named(name(from + 1)?)?, from + 2)),
            Some(schema) if schema == driver::SCHEMA => Some((named(name(from + 3)?)?, from + 4)),
            Some(_) => None,
        }
    }

    fn outputs(&mut self, table: &'static Table) -> Result<Vec<Output>, Error> {
        let mut outputs = Vec::new();
        loop {
            if self.symbol("*") {
                outputs.extend(Self::all_of(table));
            } else if self.word("count") {
                if !(self.symbol("(") && self.symbol("*") && self.symbol(")")) {
                    return Err(self.unexpected("(*)"));
                }
                let name = self.alias()?.unwrap_or_else(|| "count".to_owned());
                let what = What::Count;
                outputs.push(Output { name, what });
            } else {
                let at = self.column(table)?;
                self.cast()?;
                let name = self.alias()?;
                let name = name.unwrap_or_else(|| table.columns[at].name.to_owned());
                let what = What::Column(at);
                outputs.push(Output { name, what });
            }
            if !self.symbol(",") {
                break;
            }
        }
        let counts = outputs.iter().filter(|output| output.what == What::Count);
        if ![0, outputs.len()].contains(&counts.count()) {
            return Err(self.not_done());
        }
        Ok(outputs)
    }

    fn alias(&mut self) -> Result<Option<String>, Error> {
        if !self.word("as") {
            return Ok(None);
        }
        let name = self.qualified("a name")?;
        Ok(name.into_iter().next_back())
    }

    fn not_done(&self) -> Error {
        let message = "the console has plain queries of one table only: columns or count(*), conditions \
                       joined by AND, ORDER BY, LIMIT and OFFSET";
        Error {
            at: Some(self.place()),
            ..Error::new("0A000", message).hint("HELP shows the form.")
        }
    }

    /// A column of the table, by its index.
    fn column(&mut self, table: &'static Table) -> Result<usize, Error> {
        let place = self.place();
        let name = self.qualified("a column")?;
        if self.peek().is_some_and(|token| token.is_symbol("(")) {
            return Err(self.not_done());
        }
        let name = name.last().map(String::as_str).unwrap_or_default();
        let mut columns = table.columns.iter();
        columns
            .position(|column| column.name == name)
            .ok_or_else(|| {
                let names: Vec<_> = table.columns.iter().map(|column| column.name).collect();
                let hint = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("Did you mean {near}?"),
                    None => format!("{} has {}.", table.name, names.join(", ")),
                };
                let message = format!("column \"{name}\" does not exist in {}", table.name);
                Error {
                    at: Some(place),
                    ..Error::new("42703", message).hint(hint)
                }
            })
    }

    pub(super) fn rest_of_select(
        &mut self,
        table: &'static Table,
        columns: Vec<Output>,
        mut conditions: Vec<Condition>,
    ) -> Result<Statement, Error> {
        if self.word("where") {
            loop {
                conditions.push(self.condition(table)?);
                if self.peek().is_some_and(|token| token.is_word("or")) {
                    return Err(self.not_done());
                }
                if !self.word("and") {
                    break;
                }
            }
        }
        let mut order = Vec::new();
        if self.word("order") {
            self.expect("by")?;
            loop {
                let at = self.column(table)?;
                let descending = self.word("desc");
                let _ = !descending && self.word("asc");
                order.push((at, descending));
                if !self.symbol(",") {
                    break;
                }
            }
        }
        let (mut limit, mut offset) = (None, None);
        loop {
            if limit.is_none() && self.word("limit") {
                limit = Some(self.operand(Type::Int, "a number")?);
            } else if offset.is_none() && self.word("offset") {
                offset = Some(self.operand(Type::Int, "a number")?);
            } else {
                break;
            }
        }
        Ok(Statement::Select(Select {
            table,
            columns,
            conditions,
            order,
            limit,
            offset,
        }))
    }

    fn condition(&mut self, table: &'static Table) -> Result<Condition, Error> {
        if self.peek().is_some_and(|token| token.is_symbol("(")) {
            return Err(self.not_done());
        }
        let column = self.column(table)?;
        self.cast()?;
        let kind = table.columns[column].kind;
        let subject = Subject::Column(column);
        if self.word("is") {
            let not = self.word("not");
            self.expect("null")?;
            let test = Test::Null { not };
            return Ok(Condition { subject, test });
        }
        let not = self.word("not");
        let likes = [
            ("like", false, false),
            ("ilike", false, true),
            ("~~", false, false),
            ("~~*", false, true),
            ("!~~", true, false),
            ("!~~*", true, true),
        ];
        for (like, inverted, fold) in likes {
            if self.word(like) || self.symbol(like) {
                let pattern = self.operand(Type::Text, "a pattern in quotes")?;
                let not = not ^ inverted;
                let test = Test::Like { pattern, not, fold };
                return Ok(Condition { subject, test });
            }
        }
        let comparisons = [
            ("=", Comparison::Equal),
            ("<>", Comparison::NotEqual),
            ("!=", Comparison::NotEqual),
            ("<=", Comparison::LessOrEqual),
            ("<", Comparison::Less),
            (">=", Comparison::GreaterOrEqual),
            (">", Comparison::Greater),
        ];
        let found = comparisons.iter().find(|(symbol, _)| self.symbol(symbol));
        let Some((_, comparison)) = found.filter(|_| !not) else {
            return Err(self.unexpected("an operator (=, <>, <, <=, >, >=, LIKE, IS NULL)"));
        };
        let test = Test::Compare(*comparison, self.operand(kind, "a value")?);
        Ok(Condition { subject, test })
    }

    /// Every column of a table.
    pub(super) fn all_of(table: &'static Table) -> Vec<Output> {
        let columns = table.columns.iter().enumerate();
        let output = |(at, column): (usize, &Described)| Output {
            name: column.name.to_owned(),
            what: What::Column(at),
        };
        columns.map(output).collect()
    }
}

fn no_relation(token: &Token, at: usize) -> Error {
    let (Token::Name { text, .. } | Token::Text(text) | Token::Symbol(text) | Token::Number(text)) =
        token
    else {
        return Error::syntax("syntax error: a table's name is missing", at);
    };
    let tables: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let hint = match nearest(text, tables.iter().copied()) {
        Some(near) => format!("Did you mean {near}?"),
        None => format!("There are {}.", tables.join(", ")),
    };
    Error {
        at: Some(at),
        ..Error::new("42P01", format!("relation \"{text}\" does not exist")).hint(hint)
    }
}
