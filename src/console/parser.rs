//! From words to a statement.

mod select;

use super::driver;
use super::error::Error;
use super::help::{columns_of, help};
use super::lexer::{Placed, Token, statements};
use super::statement::{Command, Condition, Explain, Operand, Parsed, Statement, Subject, Test};
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
    "PAUSE",
    "RESUME",
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

    /// A database, or nothing, which means all.
    fn database_or_all(&mut self) -> Result<Option<Operand>, Error> {
        match self.peek() {
            None => Ok(None),
            Some(_) => self.name_or_text("a database").map(Some),
        }
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
            "pause" => command(Command::Pause(self.database_or_all()?)),
            "resume" => command(Command::Resume(self.database_or_all()?)),
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
                command(Command::RefreshCatalog(self.database_or_all()?))
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
        self.rest_of_select(table, Self::all_of(table), conditions)
    }
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

#[cfg(test)]
mod tests;
