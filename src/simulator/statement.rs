//! The statements the simulator understands, parsed by recursive descent.

use super::catalog::Question;
use super::expression::{Aggregate, Expression, Operator};
use super::lexer::{Token, tokens};
use super::value::{SqlError, Type, Value};

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Statement {
    Select(Select),
    Explain(Select),
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
    DiscardAll,
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
    /// What Osprey's catalog reader asks.
    Catalog(Question),
}

impl Statement {
    /// True if it may run in a failed transaction.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit | Self::Rollback | Self::RollbackTo(_))
    }
}

/// A SELECT.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Select {
    pub(super) items: Vec<Item>,
    /// Schema and name; `None`: a SELECT of expressions.
    pub(super) from: Option<(Option<String>, String)>,
    pub(super) filter: Option<Expression>,
    pub(super) group: Vec<Expression>,
    pub(super) order: Vec<(Expression, bool)>,
    pub(super) limit: Option<Expression>,
    pub(super) offset: Option<Expression>,
}

/// One entry of a select list.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    All,
    Expression(Expression, Option<String>),
}

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
const CLAUSES: [&str; 12] = [
    "from", "where", "group", "order", "limit", "offset", "having", "union", "join", "left",
    "inner", "cross",
];

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn word(&self) -> &str {
        match self.peek() {
            Some(Token::Word(word)) => word,
            _ => "",
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.word() == word;
        self.at += usize::from(found);
        found
    }

    /// Takes all of `words`, or none.
    fn take_words(&mut self, words: &[&str]) -> bool {
        let start = self.at;
        let found = words.iter().all(|word| self.take_word(word));
        if !found {
            self.at = start;
        }
        found
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Symbol(next)) if *next == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect_symbol(&mut self, symbol: &str) -> Result<(), SqlError> {
        if self.take_symbol(symbol) {
            Ok(())
        } else {
            Err(self.lost())
        }
    }

    fn lost(&self) -> SqlError {
        let near = self
            .peek()
            .map_or_else(|| "the end of the statement".to_owned(), Token::printed);
        SqlError::not_understood(&near)
    }

    fn end(&self) -> Result<(), SqlError> {
        if self.at == self.tokens.len() {
            Ok(())
        } else {
            Err(self.lost())
        }
    }

    fn identifier(&mut self) -> Result<String, SqlError> {
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

    fn statement(&mut self) -> Result<Statement, SqlError> {
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

    fn list(&mut self) -> Result<Vec<Expression>, SqlError> {
        let mut list = vec![self.expression()?];
        while self.take_symbol(",") {
            list.push(self.expression()?);
        }
        Ok(list)
    }

    fn expression(&mut self) -> Result<Expression, SqlError> {
        self.binary(0)
    }

    /// Binary operators by precedence climbing; NOT and IS NULL sit between AND and comparison.
    fn binary(&mut self, least: u8) -> Result<Expression, SqlError> {
        let mut left = if least <= 2 && self.take_word("not") {
            Expression::Not(Box::new(self.binary(2)?))
        } else {
            self.primary()?
        };
        loop {
            if least <= 3 && self.take_word("is") {
                let negated = self.take_word("not");
                if !self.take_word("null") {
                    return Err(self.lost());
                }
                left = Expression::IsNull(Box::new(left), negated);
                continue;
            }
            let Some((operator, precedence)) = self.operator() else {
                return Ok(left);
            };
            if precedence < least {
                return Ok(left);
            }
            self.at += 1;
            let right = self.binary(precedence + 1)?;
            left = Expression::Binary(operator, Box::new(left), Box::new(right));
        }
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match self.peek()? {
            Token::Word(word) if word == "or" => (Operator::Or, 0),
            Token::Word(word) if word == "and" => (Operator::And, 1),
            Token::Symbol(symbol) => match *symbol {
                "=" => (Operator::Equal, 4),
                "<>" | "!=" => (Operator::NotEqual, 4),
                "<" => (Operator::Less, 4),
                "<=" => (Operator::LessOrEqual, 4),
                ">" => (Operator::Greater, 4),
                ">=" => (Operator::GreaterOrEqual, 4),
                "||" => (Operator::Concatenate, 5),
                "+" => (Operator::Add, 6),
                "-" => (Operator::Subtract, 6),
                "*" => (Operator::Multiply, 7),
                "/" => (Operator::Divide, 7),
                _ => return None,
            },
            _ => return None,
        })
    }

    fn primary(&mut self) -> Result<Expression, SqlError> {
        let mut expression = match self.peek().cloned() {
            Some(Token::Symbol("(")) => {
                self.at += 1;
                let inner = self.expression()?;
                self.expect_symbol(")")?;
                inner
            }
            Some(Token::Symbol("-")) => {
                self.at += 1;
                let zero = Expression::Literal(Value::Int(0), Type::Int4);
                let operand = self.primary()?;
                Expression::Binary(Operator::Subtract, Box::new(zero), Box::new(operand))
            }
            Some(Token::Text(text)) => {
                self.at += 1;
                Expression::Literal(Value::Text(text), Type::Text)
            }
            Some(Token::Number(text)) => {
                self.at += 1;
                number(&text)?
            }
            Some(Token::Parameter(number)) => {
                self.at += 1;
                Expression::Parameter(number - 1)
            }
            Some(Token::Word(word)) => self.named(&word)?,
            Some(Token::Quoted(_)) => self.column()?,
            _ => return Err(self.lost()),
        };
        while self.take_symbol("::") {
            let name = self.identifier()?;
            let kind = Type::named(&name)
                .ok_or_else(|| SqlError::not_understood(&format!("the type \"{name}\"")))?;
            expression = Expression::Cast(Box::new(expression), kind);
        }
        Ok(expression)
    }

    /// A constant, a function or a column.
    fn named(&mut self, word: &str) -> Result<Expression, SqlError> {
        if CLAUSES.contains(&word) {
            return Err(self.lost());
        }
        let literal = match word {
            "true" => Some((Value::Bool(true), Type::Bool)),
            "false" => Some((Value::Bool(false), Type::Bool)),
            "null" => Some((Value::Null, Type::Text)),
            _ => None,
        };
        if let Some((value, kind)) = literal {
            self.at += 1;
            return Ok(Expression::Literal(value, kind));
        }
        if matches!(self.tokens.get(self.at + 1), Some(Token::Symbol("("))) {
            self.at += 2;
            return self.call(word);
        }
        if matches!(
            word,
            "current_user" | "session_user" | "user" | "current_catalog"
        ) {
            self.at += 1;
            return Ok(Expression::Call(word.to_owned(), Vec::new()));
        }
        self.column()
    }

    /// The arguments of `name(`.
    fn call(&mut self, name: &str) -> Result<Expression, SqlError> {
        let aggregate = Aggregate::named(name);
        if aggregate == Some(Aggregate::Count) && self.take_symbol("*") {
            self.expect_symbol(")")?;
            return Ok(Expression::Aggregate(Aggregate::Count, None));
        }
        let mut arguments = Vec::new();
        if !self.take_symbol(")") {
            arguments = self.list()?;
            self.expect_symbol(")")?;
        }
        match (aggregate, arguments.len()) {
            (Some(aggregate), 1) => Ok(Expression::Aggregate(
                aggregate,
                arguments.pop().map(Box::new),
            )),
            _ => Ok(Expression::Call(name.to_owned(), arguments)),
        }
    }

    /// A column, perhaps behind the name or alias of its table, which is not looked at: there is
    /// only one table. `schema.function()` is taken as the function.
    fn column(&mut self) -> Result<Expression, SqlError> {
        let mut name = self.identifier()?;
        while self.take_symbol(".") {
            name = self.identifier()?;
            if self.take_symbol("(") {
                return self.call(&name);
            }
        }
        Ok(Expression::Column(name))
    }
}

fn number(text: &str) -> Result<Expression, SqlError> {
    let malformed = || SqlError::not_understood(&format!("the number {text}"));
    if text.contains('.') {
        let value = text.parse().map_err(|_| malformed())?;
        return Ok(Expression::Literal(Value::Float(value), Type::Float8));
    }
    let value: i64 = text.parse().map_err(|_| malformed())?;
    let kind = if i32::try_from(value).is_ok() {
        Type::Int4
    } else {
        Type::Int8
    };
    Ok(Expression::Literal(Value::Int(value), kind))
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
