//! Telling an error about encrypted data from every other error.
//!
//! Hologres wraps its engines' errors in one another, escaping each anew, so the tokens are looked
//! for in a text without white space and backslashes. A user's own text can quote such an error
//! (in RAISE, in a literal that does not parse, in a row that violates a constraint): PostgreSQL's
//! own messages around such quotes are known and are left alone.

/// An error about encrypted data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which one.
    pub kind: FaultKind,
    /// The file that could not be read, `pangu://…`, if the text names it.
    pub path: Option<String>,
    /// The MaxCompute project in that path, lower case.
    pub project: Option<String>,
}

impl Fault {
    /// True if another route may read the data: then the statement can be run again.
    pub fn is_curable(&self) -> bool {
        self.kind == FaultKind::HqeCannotRead
    }
}

/// What kind of error it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// HQE could not open a file of the storage layer: the vendor's page explains it by encrypted
    /// data.
    HqeCannotRead,
    /// KMS refuses: the key is disabled.
    KeyDisabled,
    /// KMS refuses: the key is about to be deleted.
    KeyPendingDeletion,
    /// KMS refuses: the key has no material.
    KeyPendingImport,
    /// KMS does not know the key.
    KeyNotFound,
    /// RAM role or policy missing.
    RoleOrPolicy,
}

/// A fault is there if all tokens of its rule are. Lower case, no white space.
///
/// The exception and the path are from the vendor's page on BYOK; the refusals are KMS' error codes
/// (KMS, *Impact of CMK states*) and the roles' names: how Hologres words such a failure around
/// them is not published, so nothing but the codes and names themselves is looked for.
const RULES: &[(&[&str], FaultKind)] = &[
    (&["rejected.disabled"], FaultKind::KeyDisabled),
    (&["rejected.pendingdeletion"], FaultKind::KeyPendingDeletion),
    (&["rejected.pendingimport"], FaultKind::KeyPendingImport),
    (&["forbidden.keynotfound"], FaultKind::KeyNotFound),
    (
        &["aliyunhologresencryptiondefaultrole"],
        FaultKind::RoleOrPolicy,
    ),
    (
        &["aliyunserviceroleforhologresencryption"],
        FaultKind::RoleOrPolicy,
    ),
    (&["forbidden.nopermission", "kms"], FaultKind::RoleOrPolicy),
    (
        &["panguparameterinvalidexception"],
        FaultKind::HqeCannotRead,
    ),
    (
        &["pangu", "/product/odps/", "errorcode:9"],
        FaultKind::HqeCannotRead,
    ),
];

/// Some part of what Hologres wraps around such an error; without any of it, a token is believed
/// only at the very start of the message.
const ENVELOPE: &[&str] = &[
    "pangu://",
    "hos_exception",
    "errorcode",
    "err_msg",
    "server_internal_error",
    "hgerr_",
    "kactorinvokeerror",
    "kinternalerror",
    "ioerror",
    "queryfailed",
    "getresultfailed",
    "execsqlfailed",
    "status{",
    "status:",
    "kms",
];

/// How PostgreSQL's own messages begin that quote what the user wrote or stored.
const QUOTING: &[&str] = &[
    "invalid input syntax",
    "invalid value for",
    "invalid byte sequence",
    "invalid regular expression",
    "invalid name syntax",
    "invalid hexadecimal",
    "malformed ",
    "syntax error",
    "unterminated ",
    "unrecognized ",
    "zero-length ",
    "relation \"",
    "column ",
    "table \"",
    "view \"",
    "schema \"",
    "type ",
    "function ",
    "operator ",
    "aggregate ",
    "procedure ",
    "role \"",
    "user \"",
    "database \"",
    "server \"",
    "extension \"",
    "cursor \"",
    "prepared statement \"",
    "option \"",
    "parameter \"",
    "value ",
    "duplicate key value",
    "null value in column",
    "new row for relation",
    "insert or update on table",
    "update or delete on table",
    "conflicting key value",
    "permission denied for",
    "must be ",
    "date/time field value",
    "time zone ",
    "missing data for column",
    "extra data after",
];

/// How much of each field is looked at, in bytes: no real message is longer, and a hostile one
/// must not cost much.
const LOOKED_AT: usize = 1 << 20;

/// The fault that an ErrorResponse's M, D and W fields report, if it is one. Empty slices stand for
/// missing fields.
pub fn recognize(message: &[u8], detail: &[u8], context: &[u8]) -> Option<Fault> {
    if raised_by_user(context) || quotes_user(message) {
        return None;
    }
    // A context line repeats the statement or the data; a message of Hologres' own in it does not
    // begin that way.
    let context = if repeats_user(context) {
        &[][..]
    } else {
        context
    };
    [message, detail, context]
        .into_iter()
        .find_map(recognize_text)
}

fn recognize_text(text: &[u8]) -> Option<Fault> {
    let squeezed = squeeze(&text[..text.len().min(LOOKED_AT)]);
    let lower = squeezed.to_ascii_lowercase();
    let begins = lower.strip_prefix("error:").unwrap_or(&lower);
    let wrapped = ENVELOPE.iter().any(|part| lower.contains(part));
    let kind = RULES.iter().find_map(|&(tokens, kind)| {
        let there = tokens.iter().all(|token| holds(&lower, token));
        (there && (wrapped || begins.starts_with(tokens[0]))).then_some(kind)
    })?;
    let path = path(&squeezed, &lower);
    let project = path.as_deref().and_then(project);
    Some(Fault {
        kind,
        path,
        project,
    })
}

/// `token` in `text`; a token that ends in a digit is not the beginning of a longer number.
fn holds(text: &str, token: &str) -> bool {
    text.match_indices(token).any(|(at, _)| {
        let next = text.as_bytes().get(at + token.len());
        !(token.ends_with(|c: char| c.is_ascii_digit()) && next.is_some_and(u8::is_ascii_digit))
    })
}

/// The text without white space, backslashes, and the letters of escaped white space.
fn squeeze(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut squeezed = String::with_capacity(text.len());
    let mut escaped = false;
    for c in text.chars() {
        match c {
            '\\' => escaped = true,
            'n' | 'r' | 't' if escaped => escaped = false,
            c => {
                escaped = false;
                if !c.is_whitespace() {
                    squeezed.push(c);
                }
            }
        }
    }
    squeezed
}

fn path(squeezed: &str, lower: &str) -> Option<String> {
    // Lowering ASCII moves no byte, so positions in one are positions in the other.
    let start = lower.find("pangu://")?;
    let rest = &squeezed[start..];
    let end = rest
        .find([',', '"', '\'', '}', ')', ';'])
        .unwrap_or(rest.len());
    let end = lower[start..start + end].find("errorcode").unwrap_or(end);
    Some(rest[..end].to_owned())
}

/// The project of `…/product/odps/<project>/data/…`. A name that no project can have (MaxCompute: 3
/// to 28 letters, digits and underscores, a letter first) is not taken for one.
fn project(path: &str) -> Option<String> {
    let lower = path.to_ascii_lowercase();
    let (_, rest) = lower.split_once("/product/odps/")?;
    let (project, rest) = rest.split_once('/')?;
    let named = (3..=28).contains(&project.len())
        && project.starts_with(|c: char| c.is_ascii_lowercase())
        && project
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (named && rest.starts_with("data/")).then(|| project.to_owned())
}

/// The innermost frame of the context is PL/pgSQL's RAISE.
fn raised_by_user(context: &[u8]) -> bool {
    let innermost = context
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap_or_default();
    innermost.trim_ascii_end().ends_with(b"RAISE")
}

fn quotes_user(message: &[u8]) -> bool {
    let message = message.trim_ascii();
    QUOTING.iter().any(|prefix| {
        message
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    }) || [&b"does not exist"[..], b"already exists"]
        .iter()
        .any(|end| message.ends_with(end))
}

fn repeats_user(context: &[u8]) -> bool {
    let context = context.trim_ascii_start();
    context.starts_with(b"COPY ")
        || context.starts_with(b"JSON data")
        || memchr::memmem::find(context, b"SQL statement \"").is_some()
        || memchr::memmem::find(context, b"SQL function \"").is_some()
        || memchr::memmem::find(context, b"PL/pgSQL function").is_some()
        || memchr::memmem::find(context, b"portal ").is_some()
}
