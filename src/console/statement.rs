//! What a statement is.

use super::table::Table;
use super::value::{Column, Row, Type, Value};

/// A statement that is understood.
#[derive(Clone)]
pub(super) enum Statement {
    /// Rows of a table.
    Select(Select),
    /// Rows that are at hand.
    Rows {
        columns: Vec<Column>,
        rows: Vec<Row>,
    },
    /// How a statement of a client's would be decided.
    Explain(Explain),
    /// Something that clients say, and that changes nothing here: its command tag.
    Nothing(&'static str),
    /// `BEGIN`
    Begin,
    /// `COMMIT`, or else `ROLLBACK`.
    End { commit: bool },
    /// Something to do.
    Command(Command),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    Reload,
    Drain,
    /// One database, or all.
    Pause(Option<Operand>),
    /// One database, or all.
    Resume(Option<Operand>),
    Kill(Operand),
    Cancel(Operand),
    /// Of one project, or of all.
    InvalidateKey(Option<Operand>),
    /// One, or all.
    ForgetLesson(Option<Operand>),
    /// Of one database, or of all.
    RefreshCatalog(Option<Operand>),
    SetLog(Operand),
}

/// A value that stands in the statement, or that comes with Bind.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Value(Value),
    Parameter(usize),
}

/// Rows of a table: which, which part of each, in which order.
#[derive(Clone)]
pub(super) struct Select {
    pub(super) table: &'static Table,
    pub(super) columns: Vec<Output>,
    pub(super) conditions: Vec<Condition>,
    /// Indices of columns of the table, and whether the order is descending.
    pub(super) order: Vec<(usize, bool)>,
    pub(super) limit: Option<Operand>,
    pub(super) offset: Option<Operand>,
}

/// One column of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) name: String,
    pub(super) what: What,
}

/// What a column of the answer holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// A column of the table, by its index.
    Column(usize),
    /// `count(*)`
    Count,
}

/// What must hold of a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) subject: Subject,
    pub(super) test: Test,
}

/// What a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// A column of the table, by its index.
    Column(usize),
    /// Any of them.
    AnyColumn,
}

/// What must hold of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Compare(Comparison, Operand),
    Like {
        pattern: Operand,
        not: bool,
        fold: bool,
    },
    Null {
        not: bool,
    },
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// `EXPLAIN ROUTE`
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Explain {
    pub(super) statement: Operand,
    pub(super) user: Option<Operand>,
    pub(super) database: Option<Operand>,
}

/// A statement, and of which types its parameters are; `None`: that one makes no difference.
#[derive(Clone)]
pub(super) struct Parsed {
    pub(super) statement: Statement,
    pub(super) parameters: Vec<Option<Type>>,
    /// Its text, as it was sent.
    pub(super) text: String,
}

impl Parsed {
    /// The command tag of one that has no rows.
    pub(super) fn tag(&self) -> &'static str {
        match &self.statement {
            Statement::Command(command) => command.tag(),
            _ => "",
        }
    }
}

impl Statement {
    /// The columns of its answer; none: it has no rows.
    pub(super) fn columns(&self) -> Vec<Column> {
        let column = |name: &str, kind| Column {
            name: name.to_owned(),
            kind,
        };
        match self {
            Self::Select(select) => {
                let output = |output: &Output| match output.what {
                    What::Column(at) => column(&output.name, select.table.columns[at].kind),
                    What::Count => column(&output.name, Type::Int),
                };
                select.columns.iter().map(output).collect()
            }
            Self::Rows { columns, .. } => columns.clone(),
            Self::Explain(_) => vec![column("explanation", Type::Text)],
            Self::Nothing(_) | Self::Begin | Self::End { .. } | Self::Command(_) => Vec::new(),
        }
    }
}

impl Command {
    /// Its command tag.
    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Reload => "RELOAD",
            Self::Drain => "DRAIN",
            Self::Pause(_) => "PAUSE",
            Self::Resume(_) => "RESUME",
            Self::Kill(_) => "KILL",
            Self::Cancel(_) => "CANCEL",
            Self::InvalidateKey(_) => "INVALIDATE KEY",
            Self::ForgetLesson(_) => "FORGET LESSON",
            Self::RefreshCatalog(_) => "REFRESH CATALOG",
            Self::SetLog(_) => "SET LOG",
        }
    }

    /// What it is about, if it is about something.
    pub(super) fn operand(&self) -> Option<&Operand> {
        match self {
            Self::Reload | Self::Drain => None,
            Self::Kill(operand) | Self::Cancel(operand) | Self::SetLog(operand) => Some(operand),
            Self::InvalidateKey(operand)
            | Self::ForgetLesson(operand)
            | Self::Pause(operand)
            | Self::Resume(operand)
            | Self::RefreshCatalog(operand) => operand.as_ref(),
        }
    }
}
