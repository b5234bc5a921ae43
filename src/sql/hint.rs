//! What a client may ask of Osprey in a comment of its statement.

/// What a `/* osprey: route=… */` comment asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteHint {
    /// Treat the statement as protected.
    Sqe,
    /// Treat the statement as not protected.
    Hqe,
    /// Leave the session's setting as it is.
    Off,
}

impl RouteHint {
    /// Reads a comment. The answer is `None` if it is not of the form `/* osprey: route=sqe|hqe|off
    /// */`.
    pub(super) fn of_comment(comment: &[u8]) -> Option<Self> {
        let body = comment
            .strip_prefix(b"/*")?
            .strip_suffix(b"*/")?
            .trim_ascii();
        if !body.get(..7)?.eq_ignore_ascii_case(b"osprey:") {
            return None;
        }
        let setting = body[7..].trim_ascii();
        let value = setting
            .get(..5)
            .filter(|name| name.eq_ignore_ascii_case(b"route"))?;
        let value = setting[value.len()..]
            .trim_ascii()
            .strip_prefix(b"=")?
            .trim_ascii();
        match value.to_ascii_lowercase().as_slice() {
            b"sqe" => Some(Self::Sqe),
            b"hqe" => Some(Self::Hqe),
            b"off" => Some(Self::Off),
            _ => None,
        }
    }
}
