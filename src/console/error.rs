//! What a statement fails with.

use pgwire::error::{ErrorInfo, PgWireError};

/// Why a statement fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Error {
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The byte of the text at which it goes wrong.
    pub(super) at: Option<usize>,
}

impl Error {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            hint: None,
            at: None,
        }
    }

    /// A text that is no statement from that byte on.
    pub(super) fn syntax(message: impl Into<String>, at: usize) -> Self {
        Self {
            at: Some(at),
            ..Self::new("42601", message)
        }
    }

    /// With what to do about it.
    #[must_use]
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    /// As ErrorResponse has it; `text` is the statement's.
    pub(super) fn reported(self, severity: &str, text: &str) -> ErrorInfo {
        let mut info = ErrorInfo::new(severity.to_owned(), self.code.to_owned(), self.message);
        info.severity_nonlocalized = Some(severity.to_owned());
        info.hint = self.hint;
        // PostgreSQL counts characters, from 1.
        let position = self.at.and_then(|at| text.get(..at));
        info.position = position.map(|before| (before.chars().count() + 1).to_string());
        info
    }

    /// As the end of a connection.
    pub(super) fn fatal(self) -> PgWireError {
        PgWireError::UserError(Box::new(self.reported("FATAL", "")))
    }
}
