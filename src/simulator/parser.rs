//! Parsing by recursive descent: the tokens, and the statements but for their expressions.

use super::lexer::{Token, tokens};
use super::question::Question;
use super::statement::{Item, Select, Statement};
use super::value::SqlError;

/// The statements of `sql`, in order; empty ones are left out.
pub(super) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if let Some(question) = Question::recognise(sql) {
        return Ok(vec![Statement::Catalog(question)]);
    }
    let tokens = tokens(sql)?;
    let mut statements = Vec::new();
    for tokens in tokens.split(|token| *token == Token::Symbol(";")) {
        if !tokens.is_empty() {
            let mut parser = Parser { tokens, at: 0 };
            statements.push(parser.statement()?);
            parser.end()?;
        }
    }
    Ok(statements)
}

/// The SELECT that defines a view.
pub(super) fn parse_view(sql: &str) -> Result<Select, SqlError> {
    match parse(sql)?.pop() {
        Some(Statement::Select(select)) => Ok(select),
        _ => Err(SqlError::not_understood("a view's definition")),
    }
}

/// Words that end an expression, so they are no alias without AS.
pub(super) const CLAUSES: [&str; 12] = [
    "from", "where", "group", "order", "limit", "offset", "having", "union", "join", "left",
    "inner", "cross",
];

pub(super) struct Parser<'a> {
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
}

impl Parser<'_> {
    pub(super) fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    pub(super) fn word(&self) -> &str {
        match self.peek() {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.word() == word;
        self.at += usize::from(found);
        found
    }

    /// Takes all of `words`, or none.
    pub(super) fn take_words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|word| self.take_word(word));
        if !found {
            self.at = start;
        }
        found
    }

    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(next)) if *next == symbol);
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) {
            Ok(())
        } else {
            Err(self.lost())
        }
    }

    pub(super) fn lost(&self) -> SqlError {
        let near = self
            .peek()
            .map_or_else(|| "the end of the statement".to_owned(), Token::printed);
        SqlError::not_understood(&near)
    }

    pub(super) fn end(&self) -> Result<(), SqlError> {
        if self.at == self.tokens.len() {
            Ok(())
        } else {
            Err(self.lost())
        }
    }

    pub(super) fn identifier(&mut self) -> Result<String, SqlError> {
        let name = match self.peek() {
            Some(Token::Word(name) | Token::Quoted(name)) => name.clone(),
            _ => return Err(self.lost()),
        };
        self.at += 1;
        Ok(name)
    }

    /// A setting's name, perhaps with a dot.
    fn setting(&mut self) -> Result<String, SqlError> {
        let mut name = self.identifier()?;
        while self.take_symbol(".") {
            name = format!("{name}.{}", self.identifier()?);
        }
        Ok(name)
    }

    pub(super) fn statement(&mut self) -> Result<Statement, SqlError> {
        let first = self.word().to_owned();
        if first == "select" {
            return Ok(Statement::Select(self.select()?));
        }
        self.at += 1;
        match first.as_str() {
            "explain" => {
                self.explain_options()?;
                Ok(Statement::Explain(self.select()?))
            }
            "set" => self.set(),
            "reset" => Ok(match self.word() {
                "all" => {
                    self.at += 1;
                    Statement::ResetAll
                }
                _ => Statement::Reset(self.setting_or_time_zone()?),
            }),
            "discard" if self.take_word("all") => Ok(Statement::DiscardAll),
            "show" => Ok(Statement::Show(self.setting_or_time_zone()?)),
            "alter" if self.take_word("database") => self.alter_database(),
            "begin" => {
                let _ = self.take_word("transaction") || self.take_word("work");
                self.transaction_modes();
                Ok(Statement::Begin("BEGIN"))
            }
            "start" if self.take_word("transaction") => {
                self.transaction_modes();
                Ok(Statement::Begin("START TRANSACTION"))
            }
            "commit" | "end" => {
                let _ = self.take_word("transaction") || self.take_word("work");
                Ok(Statement::Commit)
            }
            "rollback" | "abort" => {
                let _ = self.take_word("transaction") || self.take_word("work");
                if self.take_word("to") {
                    let _ = self.take_word("savepoint");
                    return Ok(Statement::RollbackTo(self.identifier()?));
                }
                Ok(Statement::Rollback)
            }
            "savepoint" => Ok(Statement::Savepoint(self.identifier()?)),
            "release" => {
                let _ = self.take_word("savepoint");
                Ok(Statement::Release(self.identifier()?))
            }
            _ => {
                self.at -= 1;
                Err(self.lost())
            }
        }
    }

    fn explain_options(&mut self) -> Result<(), SqlError> {
        let _ = self.take_word("verbose");
        if self.take_symbol("(") {
            while !self.take_symbol(")") {
                if self.peek().is_none() {
                    return Err(self.lost());
                }
                self.at += 1;
            }
        }
        Ok(())
    }

    fn transaction_modes(&mut self) {
        const MODES: [&str; 11] = [
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
        while MODES.iter().any(|mode| self.take_word(mode)) || self.take_symbol(",") {}
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
            if !self.take_symbol("=") && !self.take_word("to") {
                return Err(self.lost());
            }
            name
        };
        let value = self.setting_value()?;
        Ok(Statement::Set { name, value, local })
    }

    /// `DEFAULT`, or one or more words, numbers and strings between commas.
    fn setting_value(&mut self) -> Result<Option<String>, SqlError> {
        if self.take_word("default") {
            return Ok(None);
        }
        let mut values = Vec::new();
        loop {
            let sign = if self.take_symbol("-") { "-" } else { "" };
            let value = match self.peek() {
                Some(Token::Word(text) | Token::Text(text) | Token::Number(text)) => text.clone(),
                Some(Token::Quoted(text)) => format!("\"{text}\""),
                _ => return Err(self.lost()),
            };
            self.at += 1;
            values.push(format!("{sign}{value}"));
            if !self.take_symbol(",") {
                return Ok(Some(values.join(", ")));
            }
        }
    }

    fn setting_or_time_zone(&mut self) -> Result<String, SqlError> {
        if self.take_words(&["time", "zone"]) {
            Ok("timezone".to_owned())
        } else if self.take_words(&["transaction", "isolation", "level"]) {
            Ok("transaction_isolation".to_owned())
        } else {
            self.setting()
        }
    }

    fn alter_database(&mut self) -> Result<Statement, SqlError> {
        let database = self.identifier()?;
        let set = self.take_word("set");
        if !set && !self.take_word("reset") {
            return Err(self.lost());
        }
        let name = self.setting()?;
        let value = if set {
            if !self.take_symbol("=") && !self.take_word("to") {
                return Err(self.lost());
            }
            self.setting_value()?
        } else {
            None
        };
        Ok(Statement::AlterDatabase {
            database,
            name,
            value,
        })
    }

    fn select(&mut self) -> Result<Select, SqlError> {
        if !self.take_word("select") {
            return Err(self.lost());
        }
        let mut select = Select::default();
        loop {
            select.items.push(self.item()?);
            if !self.take_symbol(",") {
                break;
            }
        }
        if self.take_word("from") {
            let mut name = self.identifier()?;
            let mut schema = None;
            if self.take_symbol(".") {
                schema = Some(std::mem::replace(&mut name, self.identifier()?));
            }
            select.from = Some((schema, name));
            let _ = self.alias()?;
        }
        if self.take_word("where") {
            select.filter = Some(self.expression()?);
        }
        if self.take_words(&["group", "by"]) {
            select.group = self.list()?;
        }
        if self.take_words(&["order", "by"]) {
            loop {
                let key = self.expression()?;
                let descending = self.take_word("desc");
                if !descending {
                    self.take_word("asc");
                }
                select.order.push((key, descending));
                if !self.take_symbol(",") {
                    break;
                }
            }
        }
        if self.take_word("limit") {
            select.limit = Some(self.expression()?);
        }
        if self.take_word("offset") {
            select.offset = Some(self.expression()?);
        }
        Ok(select)
    }

    fn item(&mut self) -> Result<Item, SqlError> {
        if self.take_symbol("*") {
            return Ok(Item::All);
        }
        let expression = self.expression()?;
        Ok(Item::Expression(expression, self.alias()?))
    }

    fn alias(&mut self) -> Result<Option<String>, SqlError> {
        let named = self.take_word("as")
            || match self.peek() {
                Some(Token::Word(word)) => !CLAUSES.contains(&word.as_str()),
                Some(Token::Quoted(_)) => true,
                _ => false,
            };
        named.then(|| self.identifier()).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_split_and_empty_statements_are_left_out() {
        let sql = "; SET hg_x = false;; BEGIN ; SELECT 'a;b' ;";
        let statements = parse(sql).unwrap();
        assert_eq!(statements.len(), 3);
        let set = Statement::Set {
            name: "hg_x".into(),
            value: Some("false".into()),
            local: false,
        };
        assert_eq!(statements[0], set);
    }

    #[test]
    fn precedence() {
        let sql = |text| parse(text).unwrap();
        assert_eq!(
            sql("SELECT 1 + 2 * 3 = 7 AND NOT a"),
            sql("SELECT ((1+(2*3))=7) AND (NOT a)")
        );
        assert_eq!(sql("SELECT a - 1 - 2"), sql("SELECT (a - 1) - 2"));
        assert_eq!(sql("SELECT NOT a = 1"), sql("SELECT NOT (a = 1)"));
    }

    #[test]
    fn what_is_not_understood_is_said_with_its_place() {
        for (sql, near) in [
            ("SELECT a FROM t JOIN u", "\"join\""),
            ("CREATE TABLE t (a int)", "\"create\""),
            ("SELECT a FROM t WHERE", "the end of the statement"),
            ("SELECT a FROM t HAVING 1", "\"having\""),
            ("SELECT 1::point", "the type \"point\""),
        ] {
            let error = parse(sql).unwrap_err();
            assert_eq!(error.code, "0A000", "{sql}");
            assert!(error.message.ends_with(near), "{sql}: {}", error.message);
        }
    }
}
