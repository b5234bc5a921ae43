//! The answer to a query: rows of a table that meet the conditions, in their order.

use std::cmp::Ordering;

use super::error::Error;
use super::statement::{Comparison, Condition, Operand, Select, Subject, Test, What};
use super::value::{Row, Value};

/// The value of an operand, with the values of Bind.
pub(super) fn value(operand: &Operand, bound: &[Value]) -> Value {
    match operand {
        Operand::Value(value) => value.clone(),
        Operand::Parameter(at) => bound.get(*at).cloned().unwrap_or(Value::Null),
    }
}

/// The rows of the answer, of all `rows` of the table.
///
/// # Errors
///
/// A LIMIT or OFFSET that is none.
pub(super) fn select(
    select: &Select,
    mut rows: Vec<Row>,
    bound: &[Value],
) -> Result<Vec<Row>, Error> {
    rows.retain(|row| {
        select
            .conditions
            .iter()
            .all(|condition| holds(condition, row, bound))
    });
    if select
        .columns
        .first()
        .is_some_and(|output| output.what == What::Count)
    {
        let count = Value::count(rows.len());
        rows = vec![vec![count; select.columns.len()]];
    } else {
        rows.sort_by(|one, two| {
            let orders = select.order.iter().map(|&(at, descending)| {
                let order = one[at].ordered(&two[at]);
                if descending { order.reverse() } else { order }
            });
            orders.fold(Ordering::Equal, Ordering::then)
        });
        for row in &mut rows {
            let output = select
                .columns
                .iter()
                .filter_map(|output| match output.what {
                    What::Column(at) => Some(row[at].clone()),
                    What::Count => None,
                });
            *row = output.collect();
        }
    }
    let skipped = number(select.offset.as_ref(), bound, "OFFSET")?.unwrap_or(0);
    rows.drain(..skipped.min(rows.len()));
    if let Some(limit) = number(select.limit.as_ref(), bound, "LIMIT")? {
        rows.truncate(limit);
    }
    Ok(rows)
}

fn number(operand: Option<&Operand>, bound: &[Value], what: &str) -> Result<Option<usize>, Error> {
    match operand.map(|operand| value(operand, bound)) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Int(number)) if number >= 0 => Ok(usize::try_from(number).ok()),
        Some(_) => Err(Error::new("2201W", format!("{what} must not be negative"))),
    }
}

/// As in SQL, what is said of NULL does not hold.
fn holds(condition: &Condition, row: &[Value], bound: &[Value]) -> bool {
    let test = |value: &Value| meets(&condition.test, value, bound);
    match condition.subject {
        Subject::Column(at) => test(&row[at]),
        Subject::AnyColumn => row.iter().any(test),
    }
}

fn meets(test: &Test, found: &Value, bound: &[Value]) -> bool {
    match test {
        Test::Null { not } => (*found == Value::Null) != *not,
        Test::Compare(comparison, operand) => {
            let order = found.compared(&value(operand, bound));
            order.is_some_and(|order| match comparison {
                Comparison::Equal => order.is_eq(),
                Comparison::NotEqual => order.is_ne(),
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            })
        }
        Test::Like { pattern, not, fold } => {
            let (Some(text), Some(pattern)) = (found.printed(), value(pattern, bound).printed())
            else {
                return false;
            };
            let matches = if *fold {
                is_like(&text.to_lowercase(), &pattern.to_lowercase())
            } else {
                is_like(&text, &pattern)
            };
            matches != *not
        }
    }
}

/// LIKE: `%` stands for any number of characters, `_` for one, and a backslash in front of a
/// character for that.
fn is_like(text: &str, pattern: &str) -> bool {
    #[derive(PartialEq)]
    enum Part {
        Any,
        One,
        Char(char),
    }
    let mut parts = Vec::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        parts.push(match c {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Char(chars.next().unwrap_or('\\')),
            c => Part::Char(c),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0, 0);
    // Where the last `%` stands, and how much of the text it has taken.
    let mut any = None;
    while at < text.len() {
        match parts.get(part) {
            Some(Part::Any) => {
                any = Some((part, at));
                part += 1;
            }
            Some(Part::One) => (at, part) = (at + 1, part + 1),
            Some(Part::Char(c)) if *c == text[at] => (at, part) = (at + 1, part + 1),
            _ => match &mut any {
                None => return false,
                Some((before, taken)) => {
                    *taken += 1;
                    (at, part) = (*taken, *before + 1);
                }
            },
        }
    }
    parts[part..].iter().all(|part| *part == Part::Any)
}

#[cfg(test)]
mod tests {
    use super::super::parser::parse;
    use super::super::statement::Statement;
    use super::*;

    fn answer(text: &str, rows: &[Row], bound: &[Value]) -> Vec<Row> {
        match parse(text, "ops").unwrap().remove(0).statement {
            Statement::Select(query) => select(&query, rows.to_vec(), bound).unwrap(),
            _ => panic!("{text} is no query"),
        }
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn limit(setting: &str, most: i64, per_address: Option<i64>) -> Row {
        let per_address = per_address.map_or(Value::Null, Value::Int);
        vec![text(setting), Value::Int(most), per_address, Value::Int(0)]
    }

    fn firsts(rows: &[Row]) -> Vec<String> {
        rows.iter().filter_map(|row| row[0].printed()).collect()
    }

    #[test]
    fn rows_meet_conditions_and_come_in_order() {
        let rows = [
            limit("b", 2, Some(1)),
            limit("a", 10, None),
            limit("C_x", 3, Some(7)),
        ];
        let found = |query: &str, bound: &[Value]| firsts(&answer(query, &rows, bound));
        assert_eq!(found("SHOW LIMITS", &[]), ["b", "a", "C_x"]);
        assert_eq!(
            found("SELECT * FROM limits ORDER BY limit_value DESC", &[]),
            ["a", "C_x", "b"]
        );
        assert_eq!(
            found("SELECT * FROM limits ORDER BY per_address", &[]),
            ["b", "C_x", "a"]
        );
        assert_eq!(
            found(
                "SELECT * FROM limits WHERE limit_value >= 3 AND per_address < 8",
                &[]
            ),
            ["C_x"]
        );
        assert_eq!(
            found("SELECT * FROM limits WHERE per_address <> 1", &[]),
            ["C_x"]
        );
        assert_eq!(
            found("SELECT * FROM limits WHERE per_address IS NULL", &[]),
            ["a"]
        );
        assert_eq!(
            found("SELECT * FROM limits WHERE setting LIKE 'c%'", &[]),
            [""; 0]
        );
        assert_eq!(
            found("SELECT * FROM limits WHERE setting ILIKE 'c\\_%'", &[]),
            ["C_x"]
        );
        assert_eq!(found("SHOW LIMITS LIKE '10'", &[]), ["a"]);
        assert_eq!(
            found(
                "SELECT * FROM limits WHERE limit_value = $1",
                &[Value::Int(2)]
            ),
            ["b"]
        );
        assert_eq!(found("SELECT * FROM limits LIMIT 1 OFFSET 1", &[]), ["a"]);
        assert_eq!(
            found("SELECT count(*) FROM limits WHERE limit_value < 5", &[]),
            ["2"]
        );
        let error = match parse("SELECT * FROM limits LIMIT -1", "ops")
            .unwrap()
            .remove(0)
            .statement
        {
            Statement::Select(query) => select(&query, rows.to_vec(), &[]).unwrap_err(),
            _ => panic!("no query"),
        };
        assert_eq!(error.code, "2201W");
    }

    #[test]
    fn patterns() {
        for (text, pattern, matches) in [
            ("", "", true),
            ("", "%", true),
            ("abc", "abc", true),
            ("abc", "a%c", true),
            ("abcbd", "a%b_", true),
            ("abc", "_b", false),
            ("a%c", "a\\%c", true),
            ("abc", "a\\%c", false),
            ("é", "_", true),
            ("aaa", "%a%a%a%a%", false),
        ] {
            assert_eq!(is_like(text, pattern), matches, "{text} {pattern}");
        }
    }
}
