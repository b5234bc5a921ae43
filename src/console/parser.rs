//! From words to a statement.

use super::driver;
use super::error::Error;
use super::help::{columns_of, help};
use super::lexer::{Placed, Token, statements};
use super::statement::{
    Command, Comparison, Condition, Explain, Operand, Output, Parsed, Select, Statement, Subject,
    Test, What,
};
use super::table::Table;
use super::tables::{TABLES, named};
use super::value::{Type, Value};
use crate::config::nearest;

/// The words that statements begin with, for a slip of the pen.
const FIRST_WORDS: &[&str] = &[
    "SHOW",
    "SELECT",
    "HELP",
    "EXPLAIN",
    "CANCEL",
    "KILL",
    "RELOAD",
    "DRAIN",
    "INVALIDATE",
    "FORGET",
    "REFRESH",
    "SET",
];

/// What clients say that changes nothing here: its first word, and its command tag.
const NOTHING: &[(&str, &str)] = &[
    ("set", "SET"),
    ("reset", "RESET"),
    ("discard", "DISCARD ALL"),
    ("deallocate", "DEALLOCATE"),
    ("close", "CLOSE CURSOR"),
    ("unlisten", "UNLISTEN"),
    ("savepoint", "SAVEPOINT"),
    ("release", "RELEASE"),
];

/// Reads a text of any number of statements; `user` is who sends it.
///
/// # Errors
///
/// The first one that is not understood.
pub(super) fn parse(text: &str, user: &str) -> Result<Vec<Parsed>, Error> {
    let parts = statements(text)?;
    let one = |words: Vec<Placed>| {
        let mut parser = Parser {
            words: &words,
            at: 0,
            end: text.len(),
            parameters: Vec::new(),
        };
        let statement = parser.statement(user)?;
        parser.end_of_statement()?;
        Ok(Parsed {
            statement,
            parameters: parser.parameters,
            text: text.to_owned(),
        })
    };
    parts.into_iter().map(one).collect()
}

struct Parser<'w> {
    words: &'w [Placed],
    at: usize,
    /// Where the text ends, for what is missing there.
    end: usize,
    /// The types of the parameters, as far as they are known.
    parameters: Vec<Option<Type>>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.words.get(self.at).map(|(token, _)| token)
    }

    fn place(&self) -> usize {
        self.words.get(self.at).map_or(self.end, |(_, at)| *at)
    }

    /// Takes the next word if it is this keyword.
    fn word(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_word(word));
        self.at += usize::from(found);
        found
    }

    /// Takes the next word if it is this symbol.
    fn symbol(&mut self, symbol: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.is_symbol(symbol));
        self.at += usize::from(found);
        found
    }

    /// What is wrong with the word that comes now.
    fn unexpected(&self, wanted: &str) -> Error {
        let found = match self.peek() {
            None => "the statement ends".to_owned(),
            Some(Token::Name { text, .. } | Token::Symbol(text) | Token::Number(text)) => {
                format!("there is \"{text}\"")
            }
            Some(Token::Text(text)) => format!("there is '{text}'"),
            Some(Token::Parameter(at)) => format!("there is ${}", at + 1),
        };
        let message = format!("syntax error: {found} where {wanted} should be");
        Error::syntax(message, self.place()).hint("HELP lists the commands.")
    }

    fn end_of_statement(&self) -> Result<(), Error> {
        if self.at < self.words.len() {
            return Err(self.unexpected("the end of the statement"));
        }
        Ok(())
    }

    /// Passes over what makes no difference. Clients bind parameters to it all the same.
    fn skip_the_rest(&mut self) {
        let parameters = self.words.iter().filter_map(|(token, _)| match token {
            Token::Parameter(at) => Some(at + 1),
            _ => None,
        });
        let most = parameters.max().unwrap_or(0);
        let known = self.parameters.len().max(most);
        self.parameters.resize(known, None);
        self.at = self.words.len();
    }

    fn statement(&mut self, user: &str) -> Result<Statement, Error> {
        let Some(Token::Name {
            text,
            quoted: false,
        }) = self.peek().cloned()
        else {
            return Err(self.unexpected("a command"));
        };
        let place = self.place();
        self.at += 1;
        let command = |command| Ok(Statement::Command(command));
        match text.as_str() {
            "show" => self.show(),
            "select" | "with" => self.select(place, user),
            "help" => self.help(),
            "explain" => self.explain(),
            "reload" => command(Command::Reload),
            "drain" => command(Command::Drain),
            "kill" => command(Command::Kill(self.operand(Type::Int, "a session's id")?)),
            "cancel" => command(Command::Cancel(self.operand(Type::Int, "a session's id")?)),
            "invalidate" => {
                self.expect("key")?;
                command(Command::InvalidateKey(
                    self.one_or_all("a project, or ALL")?,
                ))
            }
            "forget" => {
                self.expect("lesson")?;
                command(Command::ForgetLesson(
                    self.one_or_all("a lesson's subject, or ALL")?,
                ))
            }
            "refresh" => {
                self.expect("catalog")?;
                let database = match self.peek() {
                    None => None,
                    Some(_) => Some(self.name_or_text("a database")?),
                };
                command(Command::RefreshCatalog(database))
            }
            "set" if self.word("log") => {
                let _ = self.word("to") || self.symbol("=");
                command(Command::SetLog(
                    self.operand(Type::Text, "a filter in quotes")?,
                ))
            }
            "begin" | "start" => {
                self.skip_the_rest();
                Ok(Statement::Begin)
            }
            "commit" | "end" => {
                self.skip_the_rest();
                Ok(Statement::End { commit: true })
            }
            "rollback" | "abort" => {
                let to = self.words.iter().any(|(token, _)| token.is_word("to"));
                self.skip_the_rest();
                Ok(if to {
                    Statement::Nothing("ROLLBACK")
                } else {
                    Statement::End { commit: false }
                })
            }
            word => match NOTHING.iter().find(|(known, _)| *known == word) {
                Some((_, tag)) => {
                    self.skip_the_rest();
                    Ok(Statement::Nothing(tag))
                }
                None => Err(unknown("command", word, FIRST_WORDS, place)),
            },
        }
    }

    fn expect(&mut self, word: &str) -> Result<(), Error> {
        if self.word(word) {
            return Ok(());
        }
        Err(self.unexpected(&word.to_uppercase()))
    }

    /// A value of this type, or a parameter that is to be one.
    fn operand(&mut self, kind: Type, wanted: &str) -> Result<Operand, Error> {
        // Drivers put what they fill in between parentheses.
        if self.symbol("(") {
            let operand = self.operand(kind, wanted)?;
            if !self.symbol(")") {
                return Err(self.unexpected("a closing parenthesis"));
            }
            self.cast()?;
            return Ok(operand);
        }
        let place = self.place();
        let minus = self.symbol("-");
        let text = match self.peek() {
            Some(Token::Parameter(at)) if !minus => {
                let at = *at;
                self.at += 1;
                self.cast()?;
                return Ok(self.parameter(at, kind));
            }
            Some(Token::Text(text)) if !minus => text.clone(),
            Some(Token::Number(text)) if minus => format!("-{text}"),
            Some(Token::Number(text)) => text.clone(),
            Some(Token::Name {
                text,
                quoted: false,
            }) if kind == Type::Bool && matches!(text.as_str(), "true" | "false") => text.clone(),
            _ => return Err(self.unexpected(wanted)),
        };
        self.at += 1;
        self.cast()?;
        let wrong = || {
            let message = format!("invalid input syntax for type {}: \"{text}\"", kind.name());
            Error {
                at: Some(place),
                ..Error::new("22P02", message)
            }
        };
        kind.parse(&text).map(Operand::Value).ok_or_else(wrong)
    }

    fn parameter(&mut self, at: usize, kind: Type) -> Operand {
        let known = self.parameters.len().max(at + 1);
        self.parameters.resize(known, None);
        self.parameters[at].get_or_insert(kind);
        Operand::Parameter(at)
    }

    /// Passes over `::type`.
    fn cast(&mut self) -> Result<(), Error> {
        while self.symbol("::") {
            self.qualified("a type")?;
        }
        Ok(())
    }

    /// A name, of which any number of qualifiers may stand in front.
    fn qualified(&mut self, wanted: &str) -> Result<Vec<String>, Error> {
        let mut parts = Vec::new();
        loop {
            match self.peek() {
                Some(Token::Name { text, .. }) => parts.push(text.clone()),
                _ => return Err(self.unexpected(wanted)),
            }
            self.at += 1;
            if !self.symbol(".") {
                return Ok(parts);
            }
        }
    }

    /// A name as it is, a text in quotes, or a parameter.
    fn name_or_text(&mut self, wanted: &str) -> Result<Operand, Error> {
        match self.peek() {
            Some(Token::Name { .. }) => {
                let name = self.qualified(wanted)?.join(".");
                Ok(Operand::Value(Value::Text(name)))
            }
            _ => self.operand(Type::Text, wanted),
        }
    }

    fn one_or_all(&mut self, wanted: &str) -> Result<Option<Operand>, Error> {
        if self.word("all") {
            return Ok(None);
        }
        self.name_or_text(wanted).map(Some)
    }

    fn explain(&mut self) -> Result<Statement, Error> {
        self.expect("route")?;
        let statement = self.operand(Type::Text, "a statement in quotes")?;
        let (mut user, mut database) = (None, None);
        loop {
            if user.is_none() && self.word("as") {
                user = Some(self.name_or_text("a user")?);
            } else if database.is_none() && self.word("in") {
                database = Some(self.name_or_text("a database")?);
            } else {
                break;
            }
        }
        Ok(Statement::Explain(Explain {
            statement,
            user,
            database,
        }))
    }

    fn help(&mut self) -> Result<Statement, Error> {
        let place = self.place();
        let name = match self.peek() {
            None => None,
            Some(Token::Name { text, .. }) => Some(text.clone()),
            Some(_) => return Err(self.unexpected("a table")),
        };
        self.at += usize::from(name.is_some());
        let (columns, rows) = match name.as_deref() {
            None => help(),
            Some(name) => match named(name) {
                Some(table) => columns_of(table),
                None => return Err(no_table(name, place)),
            },
        };
        Ok(Statement::Rows { columns, rows })
    }

    fn show(&mut self) -> Result<Statement, Error> {
        let place = self.place();
        let rest: Vec<_> = self.words[self.at..]
            .iter()
            .map(|(token, _)| token)
            .collect();
        let name = match rest.first() {
            Some(Token::Name { text, .. }) => text.clone(),
            _ => return Err(self.unexpected("a table")),
        };
        if name == "help" {
            self.at += 1;
            return self.help();
        }
        let Some(table) = named(&name) else {
            let words = rest.iter().filter_map(|token| match token {
                Token::Name { text, .. } => Some(text.as_str()),
                _ => None,
            });
            let setting = words.collect::<Vec<_>>().join(" ");
            if let Some((columns, rows)) = driver::show(&setting) {
                self.skip_the_rest();
                return Ok(Statement::Rows { columns, rows });
            }
            return Err(no_table(&name, place));
        };
        self.at += 1;
        let mut conditions = Vec::new();
        if self.word("like") {
            let pattern = self.operand(Type::Text, "a pattern in quotes")?;
            conditions.push(Condition {
                subject: Subject::AnyColumn,
                test: Test::Like {
                    pattern,
                    not: false,
                    fold: true,
                },
            });
        }
        self.rest_of_select(table, all_of(table), conditions)
    }

    fn select(&mut self, place: usize, user: &str) -> Result<Statement, Error> {
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
                outputs.extend(all_of(table));
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

    fn rest_of_select(
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
}

/// Every column of a table.
fn all_of(table: &'static Table) -> Vec<Output> {
    let columns = table.columns.iter().enumerate();
    let output = |(at, column): (usize, &super::table::Described)| Output {
        name: column.name.to_owned(),
        what: What::Column(at),
    };
    columns.map(output).collect()
}

/// A word that is none of those which may stand there.
fn unknown(what: &str, word: &str, known: &[&str], at: usize) -> Error {
    let hint = match nearest(word, known.iter().copied()) {
        Some(near) => format!(
            "Did you mean {}? HELP lists the commands.",
            near.to_uppercase()
        ),
        None => "HELP lists the commands.".to_owned(),
    };
    Error::syntax(format!("unknown {what} \"{word}\""), at).hint(hint)
}

fn no_table(name: &str, at: usize) -> Error {
    let tables = TABLES.iter().map(|table| table.name).chain(["help"]);
    unknown("table", name, &tables.collect::<Vec<_>>(), at)
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

#[cfg(test)]
mod tests;
