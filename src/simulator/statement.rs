//! The statements the simulator understands. What queries are, sqlparser reads; what concerns the
//! session is read here from its tokens.

use sqlparser::ast::{self, DescribeAlias, Query};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use super::value::SqlError;

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    Query(Box<Query>),
    Explain(Box<Query>),
    Set {
        name: String,
        /// `None`: DEFAULT.
        value: Option<String>,
        local: bool,
    },
    /// `SET TRANSACTION …` and `SET SESSION CHARACTERISTICS …`: accepted, without effect.
    SetTransaction,
    Reset(String),
    ResetAll,
    /// DISCARD, with the tag of its CommandComplete.
    Discard(&'static str),
    Show(String),
    /// `ALTER DATABASE … SET`, for the connections to come.
    AlterDatabase {
        database: String,
        name: String,
        /// `None`: RESET.
        value: Option<String>,
    },
    /// BEGIN or START TRANSACTION; the tag of its CommandComplete.
    Begin(&'static str),
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
}

impl Statement {
    /// True if it may run in a failed transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo(_))
    }
}

/// Words, signs and blanks in a text: what stands in them goes no deeper than the stack allows.
const MAX_TOKENS: usize = 50_000;

/// Reads all statements of a text; like PostgreSQL, before the first of them runs.
pub(super) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql)
        .tokenize_with_location()
        .map_err(|error| unfinished(sql, error.location, &error.message))?;
    if tokens.len() > MAX_TOKENS {
        return Err(SqlError::not_done(&format!(
            "texts of more than {MAX_TOKENS} words"
        )));
    }
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| token.token == Token::SemiColon) {
        let mut reader = Reader { sql, tokens, at: 0 };
        if reader.peek().is_some() {
            statements.push(reader.statement()?);
        }
    }
    Ok(statements)
}

/// A name as PostgreSQL takes it: in lower case unless it is quoted.
pub(super) fn folded(ident: &ast::Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_lowercase(),
    }
}

struct Reader<'a> {
    sql: &'a str,
    tokens: &'a [TokenWithSpan],
    at: usize,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<&Token> {
        while matches!(self.tokens.get(self.at)?.token, Token::Whitespace(_)) {
            self.at += 1;
        }
        Some(&self.tokens[self.at].token)
    }

    fn word(&mut self) -> String {
        match self.peek() {
            Some(Token::Word(word)) if word.quote_style.is_none() => word.value.to_lowercase(),
            _ => String::new(),
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.word() == word;
        self.at += usize::from(found);
        found
    }

    fn take_words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|word| self.take_word(word));
        if !found {
            self.at = start;
        }
        found
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.at += usize::from(found);
        found
    }

    /// What stands here does not belong here.
    fn lost(&mut self) -> SqlError {
        let at = self
            .peek()
            .is_some()
            .then(|| self.tokens[self.at].span.start);
        syntax_error(self.sql, at)
    }

    fn identifier(&mut self) -> Result<String, SqlError> {
        let name = match self.peek() {
            Some(Token::Word(word)) if word.quote_style.is_some() => word.value.clone(),
            Some(Token::Word(word)) => word.value.to_lowercase(),
            _ => return Err(self.lost()),
        };
        self.at += 1;
        Ok(name)
    }

    fn statement(&mut self) -> Result<Statement, SqlError> {
        let start = self.at;
        let first = self.word();
        self.at += 1;
        let statement = match first.as_str() {
            "set" => self.set()?,
            "reset" if self.take_word("all") => Statement::ResetAll,
            "reset" => Statement::Reset(self.setting()?),
            "show" => Statement::Show(self.setting()?),
            "discard" => {
                const KINDS: [(&str, &str); 5] = [
                    ("all", "DISCARD ALL"),
                    ("plans", "DISCARD PLANS"),
                    ("sequences", "DISCARD SEQUENCES"),
                    ("temp", "DISCARD TEMP"),
                    ("temporary", "DISCARD TEMP"),
                ];
                let kind = KINDS.iter().find(|(word, _)| self.take_word(word));
                Statement::Discard(kind.ok_or_else(|| self.lost())?.1)
            }
            "alter" if self.take_word("database") => self.alter_database()?,
            "begin" => {
                self.transaction_modes();
                Statement::Begin("BEGIN")
            }
            "start" if self.take_word("transaction") => {
                self.transaction_modes();
                Statement::Begin("START TRANSACTION")
            }
            "commit" | "end" => {
                self.transaction_modes();
                Statement::Commit
            }
            "rollback" | "abort" => {
                self.transaction_modes();
                if self.take_word("to") {
                    self.take_word("savepoint");
                    Statement::RollbackTo(self.identifier()?)
                } else {
                    Statement::Rollback
                }
            }
            "savepoint" => Statement::Savepoint(self.identifier()?),
            "release" => {
                self.take_word("savepoint");
                Statement::Release(self.identifier()?)
            }
            _ => {
                self.at = start;
                return self.parsed(&first);
            }
        };
        match self.peek() {
            None => Ok(statement),
            Some(_) => Err(self.lost()),
        }
    }

    /// Anything else is sqlparser's.
    fn parsed(&mut self, first: &str) -> Result<Statement, SqlError> {
        let mut tokens = plain_operators(self.tokens);
        let word = |token: &TokenWithSpan| matches!(token.token, Token::Word(_));
        if first == "table"
            && let Some(at) = tokens.iter().position(word)
        {
            // TABLE customers: sqlparser knows it only inside of a query.
            let whole = [
                Token::make_keyword("SELECT"),
                Token::Mul,
                Token::make_keyword("FROM"),
            ];
            tokens.splice(at..=at, whole.map(TokenWithSpan::wrap));
        }
        let mut parser = Parser::new(&PostgreSqlDialect {}).with_tokens_with_locations(tokens);
        let statement = parser.parse_statement().map_err(|error| {
            if error == ParserError::RecursionLimitExceeded {
                return SqlError::new("54001", "stack depth limit exceeded");
            }
            // Its messages end in " at Line: 1, Column: 8", or name EOF.
            let message = error.to_string();
            let number = |label: &str| {
                let (_, rest) = message.rsplit_once(label)?;
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse().ok()
            };
            let at = number("Line: ").zip(number("Column: "));
            syntax_error(self.sql, at.map(|(line, column)| Location { line, column }))
        })?;
        let rest = parser.peek_token();
        if rest.token != Token::EOF {
            return Err(syntax_error(self.sql, Some(rest.span.start)));
        }
        match statement {
            ast::Statement::Query(query) => Ok(Statement::Query(query)),
            ast::Statement::Explain {
                describe_alias: DescribeAlias::Explain,
                statement,
                ..
            } => match *statement {
                ast::Statement::Query(query) => Ok(Statement::Explain(query)),
                _ => Err(SqlError::not_done("EXPLAIN of anything but a query")),
            },
            _ => Err(SqlError::not_done(&first.to_uppercase())),
        }
    }

    /// Words like TRANSACTION, WORK, ISOLATION LEVEL READ COMMITTED: they change nothing here.
    fn transaction_modes(&mut self) {
        const MODES: [&str; 13] = [
            "transaction",
            "work",
            "isolation",
            "level",
            "read",
            "only",
            "write",
            "committed",
            "uncommitted",
            "repeatable",
            "serializable",
            "not",
            "deferrable",
        ];
        while MODES.iter().any(|mode| self.take_word(mode)) || self.take(&Token::Comma) {}
    }

    /// A setting's name, perhaps with a dot.
    fn setting(&mut self) -> Result<String, SqlError> {
        if self.take_words(&["time", "zone"]) {
            return Ok("timezone".to_owned());
        }
        if self.take_words(&["transaction", "isolation", "level"]) {
            return Ok("transaction_isolation".to_owned());
        }
        let mut name = self.identifier()?;
        while self.take(&Token::Period) {
            name = format!("{name}.{}", self.identifier()?);
        }
        Ok(name)
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        if self.take_word("transaction")
            || self.take_words(&["session", "characteristics", "as", "transaction"])
        {
            self.transaction_modes();
            return Ok(Statement::SetTransaction);
        }
        let local = self.take_word("local");
        if !local {
            self.take_word("session");
        }
        let name = if self.take_words(&["time", "zone"]) {
            "timezone".to_owned()
        } else if self.take_word("names") {
            "client_encoding".to_owned()
        } else {
            let name = self.setting()?;
            self.assignment()?;
            name
        };
        let value = self.value()?;
        Ok(Statement::Set { name, value, local })
    }

    fn assignment(&mut self) -> Result<(), SqlError> {
        if self.take(&Token::Eq) || self.take_word("to") {
            return Ok(());
        }
        Err(self.lost())
    }

    /// `DEFAULT`, or one or more words, numbers and strings between commas.
    fn value(&mut self) -> Result<Option<String>, SqlError> {
        if self.take_word("default") {
            return Ok(None);
        }
        let mut values = Vec::new();
        loop {
            let sign = if self.take(&Token::Minus) { "-" } else { "" };
            let value = match self.peek() {
                Some(Token::Word(word)) if word.quote_style.is_some() => {
                    format!("\"{}\"", word.value)
                }
                Some(Token::Word(word)) => word.value.to_lowercase(),
                Some(
                    Token::SingleQuotedString(text)
                    | Token::EscapedStringLiteral(text)
                    | Token::Number(text, _),
                ) => text.clone(),
                _ => return Err(self.lost()),
            };
            self.at += 1;
            values.push(format!("{sign}{value}"));
            if !self.take(&Token::Comma) {
                return Ok(Some(values.join(", ")));
            }
        }
    }

    fn alter_database(&mut self) -> Result<Statement, SqlError> {
        let database = self.identifier()?;
        let set = self.take_word("set");
        if !set && !self.take_word("reset") {
            return Err(SqlError::not_done("ALTER DATABASE but for its settings"));
        }
        let name = self.setting()?;
        let value = if set {
            self.assignment()?;
            self.value()?
        } else {
            None
        };
        Ok(Statement::AlterDatabase {
            database,
            name,
            value,
        })
    }
}

/// `OPERATOR(pg_catalog.~)` is `~`: sqlparser reads it, but not in front of ANY.
fn plain_operators(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut plain: Vec<TokenWithSpan> = Vec::new();
    let mut rest = tokens.iter();
    while let Some(token) = rest.next() {
        let begins = matches!(&token.token, Token::Word(word) if word.keyword == Keyword::OPERATOR);
        let mut inside = rest
            .clone()
            .take_while(|token| token.token != Token::RParen)
            .filter(|token| !matches!(token.token, Token::Whitespace(_)));
        if begins
            && inside
                .next()
                .is_some_and(|token| token.token == Token::LParen)
        {
            plain.extend(inside.last().cloned());
            rest.find(|token| token.token == Token::RParen);
        } else {
            plain.push(token.clone());
        }
    }
    plain
}

/// PostgreSQL's words for what cannot be read; without a place, the end of the text.
fn syntax_error(sql: &str, at: Option<Location>) -> SqlError {
    let offset = at.and_then(|at| {
        let line = usize::try_from(at.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(at.column).ok()?.checked_sub(1)?;
        let before: usize = sql.split_inclusive('\n').take(line).map(str::len).sum();
        let rest = sql.get(before..)?;
        Some(before + rest.char_indices().nth(column)?.0)
    });
    let Some(offset) = offset else {
        return SqlError::new("42601", "syntax error at end of input").at(sql, sql.len());
    };
    let rest = &sql[offset..];
    let in_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let end = match rest.chars().next() {
        Some(quote @ ('\'' | '"')) => rest[1..].find(quote).map_or(rest.len(), |end| end + 2),
        Some(first) if in_word(first) => rest.find(|c| !in_word(c)).unwrap_or(rest.len()),
        Some(first) => first.len_utf8(),
        None => 0,
    };
    let message = format!("syntax error at or near \"{}\"", &rest[..end]);
    SqlError::new("42601", message).at(sql, offset)
}

/// What the tokenizer could not finish.
fn unfinished(sql: &str, at: Location, message: &str) -> SqlError {
    let mut error = syntax_error(sql, Some(at));
    let message = message.to_lowercase();
    if message.contains("string literal") {
        error.message = error
            .message
            .replace("syntax error", "unterminated quoted string");
    } else if message.contains("comment") {
        "unterminated /* comment".clone_into(&mut error.message);
    } else if message.contains("delimiter") {
        error.message = error
            .message
            .replace("syntax error", "unterminated quoted identifier");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_errors_are_postgresqls() {
        for (sql, message, position) in [
            ("selec 1", "syntax error at or near \"selec\"", "1"),
            (
                "select 1;\nselect 'ä' )",
                "syntax error at or near \")\"",
                "22",
            ),
            ("select * from", "syntax error at end of input", "14"),
            ("set a b", "syntax error at or near \"b\"", "7"),
            ("show", "syntax error at end of input", "5"),
            (
                "begin nonsense",
                "syntax error at or near \"nonsense\"",
                "7",
            ),
            (
                "select 'a",
                "unterminated quoted string at or near \"'a\"",
                "8",
            ),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!((error.code, &*error.message), ("42601", message), "{sql}");
            assert_eq!(error.position.unwrap().to_string(), position, "{sql}");
        }
    }

    #[test]
    fn what_is_not_done_is_said_in_a_line() {
        for (sql, what) in [
            ("CREATE TABLE a (b int)", "CREATE"),
            ("insert into customers values (1)", "INSERT"),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.code, "0A000");
            assert_eq!(
                error.message,
                format!("the demo's Hologres does not do {what}")
            );
        }
    }

    #[test]
    fn commands_of_the_session() {
        let set = |name: &str, value: Option<&str>, local| Statement::Set {
            name: name.to_owned(),
            value: value.map(str::to_owned),
            local,
        };
        for (sql, expected) in [
            ("SET a.b TO Off", set("a.b", Some("off"), false)),
            ("set local x = -1, 'It'", set("x", Some("-1, It"), true)),
            ("SET x TO DEFAULT", set("x", None, false)),
            ("SET TIME ZONE 'UTC'", set("timezone", Some("UTC"), false)),
            (
                "Start Transaction Read Only",
                Statement::Begin("START TRANSACTION"),
            ),
            (
                "rollback work to savepoint \"A\"",
                Statement::RollbackTo("A".into()),
            ),
            ("DISCARD plans", Statement::Discard("DISCARD PLANS")),
        ] {
            assert_eq!(parse(sql).unwrap(), [expected], "{sql}");
        }
    }
}
