//! The rest of the parser: expressions, by precedence climbing.

use super::expression::{Aggregate, Expression, Operator};
use super::lexer::Token;
use super::parser::{CLAUSES, Parser};
use super::value::{SqlError, Type, Value};

impl Parser<'_> {
    pub(super) fn list(&mut self) -> Result<Vec<Expression>, SqlError> {
        let mut list = vec![self.expression()?];
        while self.take_symbol(",") {
            list.push(self.expression()?);
        }
        Ok(list)
    }

    pub(super) fn expression(&mut self) -> Result<Expression, SqlError> {
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
