//! Views of the messages that a server sends.

use super::split_cstr;

/// Message types (PostgreSQL, *Message Formats*).
pub mod tag {
    /// Authentication…
    pub const AUTHENTICATION: u8 = b'R';
    /// BackendKeyData
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// BindComplete
    pub const BIND_COMPLETE: u8 = b'2';
    /// CloseComplete
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// CommandComplete
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// CopyBothResponse
    pub const COPY_BOTH: u8 = b'W';
    /// CopyData
    pub const COPY_DATA: u8 = b'd';
    /// CopyDone
    pub const COPY_DONE: u8 = b'c';
    /// CopyInResponse
    pub const COPY_IN: u8 = b'G';
    /// CopyOutResponse
    pub const COPY_OUT: u8 = b'H';
    /// DataRow
    pub const DATA_ROW: u8 = b'D';
    /// EmptyQueryResponse
    pub const EMPTY_QUERY: u8 = b'I';
    /// ErrorResponse
    pub const ERROR: u8 = b'E';
    /// NegotiateProtocolVersion
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// NoData
    pub const NO_DATA: u8 = b'n';
    /// NoticeResponse
    pub const NOTICE: u8 = b'N';
    /// NotificationResponse
    pub const NOTIFICATION: u8 = b'A';
    /// `ParameterDescription`
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    /// ParameterStatus
    pub const PARAMETER_STATUS: u8 = b'S';
    /// ParseComplete
    pub const PARSE_COMPLETE: u8 = b'1';
    /// PortalSuspended
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// ReadyForQuery
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// RowDescription
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The longest ErrorResponse that may come before the server knows which protocol its client speaks; what
/// seems to be longer is a text of protocol 2 (libpq, `MAX_ERRLEN`).
const MAX_EARLY_ERROR: usize = 30_000;

/// The text of an error with which a server answers before it knows which protocol its client speaks, as
/// PostgreSQL does when it cannot start a process: an ErrorResponse, or an `E` with the text up to a zero
/// behind it. `None`: it has not come whole.
pub fn early_error(sent: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let (&tag::ERROR, rest) = sent.split_first()? else {
        return None;
    };
    let length = u32::from_be_bytes(*rest.first_chunk()?) as usize;
    if (4..=MAX_EARLY_ERROR).contains(&length) {
        let body = rest.get(4..length)?;
        return Some(text(ErrorFields::new(body).message()));
    }
    let (message, _) = split_cstr(rest)?;
    Some(text(message))
}

/// The name and the value that a ParameterStatus reports.
pub fn parameter_status(body: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = split_cstr(body)?;
    let (value, _) = split_cstr(rest)?;
    Some((name, value))
}

/// The transaction status byte of a ReadyForQuery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Status {
    /// `I`: not in a transaction block, as at the start of a session.
    #[default]
    Idle,
    /// `T`: in a transaction block.
    Transaction,
    /// `E`: in a failed transaction block.
    Failed,
}

impl Status {
    /// Reads the body of a ReadyForQuery. What is not one counts as failed: nothing is injected
    /// then.
    pub fn read(body: &[u8]) -> Self {
        match body {
            [status] => Self::of(*status),
            _ => Self::Failed,
        }
    }

    /// The status that this byte stands for.
    #[inline]
    pub fn of(byte: u8) -> Self {
        match byte {
            b'I' => Self::Idle,
            b'T' => Self::Transaction,
            _ => Self::Failed,
        }
    }
}

/// The tag of a CommandComplete.
pub fn command_tag(body: &[u8]) -> &[u8] {
    split_cstr(body).map_or(body, |(tag, _)| tag)
}

/// A view of an ErrorResponse or NoticeResponse; fields may come in any order, and any may be
/// missing (PostgreSQL, *Error and Notice Message Fields*).
#[derive(Debug, Clone, Copy)]
pub struct ErrorFields<'a> {
    body: &'a [u8],
}

impl<'a> ErrorFields<'a> {
    /// The view of a message body.
    pub fn new(body: &'a [u8]) -> Self {
        Self { body }
    }

    /// The message body.
    pub fn body(self) -> &'a [u8] {
        self.body
    }

    /// The fields in the order in which they came: code and value.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.body;
        std::iter::from_fn(move || {
            let (&code, after) = rest.split_first()?;
            if code == 0 {
                return None;
            }
            let (value, after) = split_cstr(after)?;
            rest = after;
            Some((code, value))
        })
    }

    /// One field; empty if it is missing.
    pub fn get(self, code: u8) -> &'a [u8] {
        self.iter()
            .find_map(|(field, value)| (field == code).then_some(value))
            .unwrap_or_default()
    }

    /// The SQLSTATE.
    pub fn sqlstate(self) -> &'a [u8] {
        self.get(b'C')
    }

    /// The primary message.
    pub fn message(self) -> &'a [u8] {
        self.get(b'M')
    }

    /// True for FATAL and PANIC: the server closes, and no ReadyForQuery follows. `V` is never
    /// localised; servers that do not send it are judged by `S`.
    pub fn is_fatal(self) -> bool {
        let severity = match self.get(b'V') {
            b"" => self.get(b'S'),
            severity => severity,
        };
        severity == b"FATAL" || severity == b"PANIC"
    }

    /// True of a NoticeResponse that is less than a warning (PostgreSQL, *Error Codes*: class 00).
    pub fn is_mere_notice(self) -> bool {
        self.sqlstate() == b"00000"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_either_protocol_may_come_first() {
        let whole = b"Ecould not fork new process for connection: no memory\n\0";
        let text = "could not fork new process for connection: no memory";
        assert_eq!(early_error(whole).as_deref(), Some(text));
        let new = b"E\0\0\0\x11SFATAL\0Mno\0\0rest";
        assert_eq!(early_error(new).as_deref(), Some("no"));
        for cut in 0..whole.len() {
            assert_eq!(early_error(&whole[..cut]), None);
        }
        for cut in 0..new.len() - 4 {
            assert_eq!(early_error(&new[..cut]), None);
        }
    }

    #[test]
    fn error_fields_survive_missing_and_broken_ones() {
        let fields = ErrorFields::new(b"SERROR\0VERROR\0CXX000\0Mno\0\0");
        assert_eq!(fields.sqlstate(), b"XX000");
        assert_eq!(fields.message(), b"no");
        assert_eq!(fields.get(b'H'), b"");
        assert!(!fields.is_fatal());
        assert!(ErrorFields::new(b"SFATAL\0\0").is_fatal());
        assert_eq!(ErrorFields::new(b"Sunterminated").iter().count(), 0);
        assert_eq!(ErrorFields::new(b"").iter().count(), 0);
    }

    #[test]
    fn an_unknown_status_counts_as_failed() {
        assert_eq!(Status::read(b"I"), Status::Idle);
        assert_eq!(Status::read(b"T"), Status::Transaction);
        assert_eq!(Status::read(b"x"), Status::Failed);
        assert_eq!(Status::read(b""), Status::Failed);
    }
}
