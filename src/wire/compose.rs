//! Messages that Osprey itself composes, appended to a buffer.

/// The name of Osprey's own prepared statement and portal. It lives only within one cycle of our
/// own, so a client never sees it in `pg_prepared_statements`.
pub const OWN_NAME: &[u8] = b"_osprey";

/// Appends one frame: `body` writes what comes after the length.
pub fn frame(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn cstr(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// Appends a Query.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    frame(out, b'Q', |out| cstr(out, sql));
}

/// Appends a Close of a prepared statement.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    frame(out, b'C', |out| {
        out.push(b'S');
        cstr(out, name);
    });
}

/// Appends a Parse. `types`: as in [`Parse`](super::frontend::Parse).
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u8]) {
    frame(out, b'P', |out| {
        cstr(out, name);
        cstr(out, text);
        out.extend_from_slice(types);
    });
}

/// Appends `Close S, Parse, Bind, Execute, Close P, Close S` under [`OWN_NAME`], without a Sync.
///
/// The leading Close matters: after a failure the server skips the trailing ones, and the name
/// would stay behind.
pub fn own_statement(out: &mut Vec<u8>, sql: &[u8]) {
    close_statement(out, OWN_NAME);
    frame(out, b'P', |out| {
        cstr(out, OWN_NAME);
        cstr(out, sql);
        out.extend_from_slice(&[0; 2]);
    });
    frame(out, b'B', |out| {
        cstr(out, OWN_NAME);
        cstr(out, OWN_NAME);
        out.extend_from_slice(&[0; 6]);
    });
    execute_own_portal(out);
    frame(out, b'C', |out| {
        out.push(b'P');
        cstr(out, OWN_NAME);
    });
    close_statement(out, OWN_NAME);
}

/// Appends an Execute of a portal of Osprey's own, without a row limit. Outside [`own_statement`]
/// there is no such portal, and the server answers with an error (34000).
pub fn execute_own_portal(out: &mut Vec<u8>) {
    frame(out, b'E', |out| {
        cstr(out, OWN_NAME);
        out.extend_from_slice(&[0; 4]);
    });
}

/// Appends a Flush.
pub fn flush(out: &mut Vec<u8>) {
    frame(out, b'H', |_| {});
}

/// Appends a Sync.
pub fn sync(out: &mut Vec<u8>) {
    frame(out, b'S', |_| {});
}

/// Appends an ErrorResponse with the given fields, in the given order.
pub fn error<'a>(out: &mut Vec<u8>, fields: impl IntoIterator<Item = (u8, &'a [u8])>) {
    frame(out, b'E', |out| {
        for (code, value) in fields {
            out.push(code);
            // A NUL within a value would end it early and shift the rest.
            out.extend(value.iter().filter(|&&byte| byte != 0));
            out.push(0);
        }
        out.push(0);
    });
}

/// Appends a FATAL of Osprey's own: after it the connection is closed.
pub fn fatal(out: &mut Vec<u8>, sqlstate: &str, message: impl AsRef<[u8]>, hint: Option<&str>) {
    let mut fields = vec![
        (b'S', b"FATAL".as_slice()),
        (b'V', b"FATAL"),
        (b'C', sqlstate.as_bytes()),
        (b'M', message.as_ref()),
    ];
    fields.extend(hint.map(|hint| (b'H', hint.as_bytes())));
    error(out, fields);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Header;
    use crate::wire::backend::ErrorFields;

    #[test]
    fn frames_carry_their_length() {
        let mut out = Vec::new();
        query(&mut out, b"SELECT 1");
        assert_eq!(out, b"Q\0\0\0\x0dSELECT 1\0");
    }

    #[test]
    fn own_statement_is_six_frames() {
        let mut out = Vec::new();
        own_statement(&mut out, b"SET a = b");
        let mut rest = out.as_slice();
        let mut tags = Vec::new();
        while let Ok(Some(header)) = Header::read(rest) {
            tags.push(header.tag);
            rest = &rest[header.frame..];
        }
        assert!(rest.is_empty());
        assert_eq!(tags, b"CPBECC");
    }

    #[test]
    fn a_nul_in_a_field_does_not_shift_the_rest() {
        let mut out = Vec::new();
        error(&mut out, [(b'M', b"a\0b".as_slice()), (b'C', b"XX000")]);
        let fields = ErrorFields::new(&out[5..]);
        assert_eq!(fields.message(), b"ab");
        assert_eq!(fields.sqlstate(), b"XX000");
    }
}
