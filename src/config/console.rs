//! The settings of the console.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::takeover::short_enough;

/// What libpq puts in front of the port, in the directory that it is given as host.
const SOCKET_NAME: &str = ".s.PGSQL.";
/// The port in the socket's name where only its directory is configured.
const SOCKET_PORT: &str = "6432";
/// What a verifier begins with in `pg_authid.rolpassword`.
const MECHANISM: &str = "SCRAM-SHA-256$";
/// Fewer iterations are none of PostgreSQL's (RFC 7677 asks for as many).
const LEAST_ITERATIONS: u32 = 4096;
/// More would keep a client busy for minutes.
const MOST_ITERATIONS: u32 = 10_000_000;

/// `[console]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Console {
    /// The Unix socket; `None`: there is none.
    pub socket: Option<PathBuf>,
    /// Its file mode; default 0600.
    pub socket_mode: u32,
    /// Who may log in there, beside root and the user that Osprey runs as.
    pub uids: Vec<u32>,
    /// Who may log in over TCP: `[[console.user]]`. If there is nobody, the database `osprey` is
    /// the upstreams' there, like any other.
    pub users: Vec<ConsoleUser>,
    /// Connections at a time, on the socket and over TCP each. Default 10.
    pub max_connections: usize,
    /// After which time a PAUSE is over, should nobody say RESUME. Default 10 min; `None`: never.
    pub pause_timeout: Option<Duration>,
}

/// `[[console.user]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsoleUser {
    /// Its name.
    pub name: String,
    /// What its password is checked with.
    pub verifier: Verifier,
}

/// A SCRAM-SHA-256 verifier (RFC 5803), as `pg_authid` has it. Who has it can try passwords, but
/// cannot log in with it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Verifier {
    /// How often the password is hashed.
    pub iterations: u32,
    /// With what.
    pub salt: Vec<u8>,
    /// The hash of the key that the client proves to have.
    pub stored_key: Vec<u8>,
    /// The key that the server proves to have.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verifier")
    }
}

impl Default for Console {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: 0o600,
            uids: Vec::new(),
            users: Vec::new(),
            max_connections: 10,
            pause_timeout: Some(Duration::from_mins(10)),
        }
    }
}

impl Verifier {
    /// Reads a verifier in the form of `pg_authid.rolpassword`. What is said of a wrong one does not
    /// repeat it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        Self::read(text).ok_or_else(|| {
            format!(
                "is not a SCRAM verifier; it has the form {MECHANISM}ITERATIONS:SALT$STOREDKEY:SERVERKEY, \
                 with {LEAST_ITERATIONS} iterations at least, as SELECT rolpassword FROM pg_authid shows \
                 it for a role of PostgreSQL's that has the password"
            )
        })
    }

    fn read(text: &str) -> Option<Self> {
        let (how, keys) = text.strip_prefix(MECHANISM)?.split_once('$')?;
        let (iterations, salt) = how.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok()?;
        let bytes = |text| STANDARD.decode(text).ok();
        let verifier = Self {
            iterations,
            salt: bytes(salt)?,
            stored_key: bytes(stored_key)?,
            server_key: bytes(server_key)?,
        };
        let is_one = (LEAST_ITERATIONS..=MOST_ITERATIONS).contains(&iterations)
            && !verifier.salt.is_empty()
            && verifier.stored_key.len() == 32
            && verifier.server_key.len() == 32;
        is_one.then_some(verifier)
    }
}

/// The path of a Unix socket, or of the directory that is to have it: libpq takes the directory as
/// `host` and finds `.s.PGSQL.` with the port in it.
pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    let given = Path::new(text);
    if !given.is_absolute() {
        return Err(format!(
            "{text:?} is not an absolute path; name a directory, such as \"/run/osprey\", or the socket \
             in it, \"/run/osprey/{SOCKET_NAME}{SOCKET_PORT}\""
        ));
    }
    let is_socket = |name: &OsStr| {
        let port = name
            .to_str()
            .and_then(|name| name.strip_prefix(SOCKET_NAME));
        port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    };
    let path = if given.file_name().is_some_and(is_socket) {
        given.to_owned()
    } else {
        given.join(format!("{SOCKET_NAME}{SOCKET_PORT}"))
    };
    short_enough(path)
}

/// A file mode in octal digits.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    let mode = u32::from_str_radix(text, 8).ok();
    mode.filter(|mode| *mode <= 0o777).ok_or_else(|| {
        format!("{text:?} is not a file mode; write octal digits, such as \"0600\" or \"0660\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the password `pencil`, with the salt of RFC 7677's example.
    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn a_verifier_is_read_as_postgresql_writes_it() {
        let verifier = Verifier::parse(VERIFIER).unwrap();
        assert_eq!((verifier.iterations, verifier.salt.len()), (4096, 16));
        assert_eq!(format!("{verifier:?}"), "Verifier");
    }

    #[test]
    fn what_is_no_verifier_is_refused_and_not_repeated() {
        for wrong in [
            "pencil",
            "md5aa95d8bd8b0d2b3b3a1d3a0b6ef7a5e4",
            "SCRAM-SHA-256$4096:c2FsdA==",
            "SCRAM-SHA-256$1:c2FsdA==$AA==:AA==",
            &VERIFIER.replace("4096", "1"),
            &VERIFIER.replace("W22Z", "****"),
            &VERIFIER[..VERIFIER.len() - 8],
        ] {
            let said = Verifier::parse(wrong).unwrap_err();
            assert!(said.contains("pg_authid"), "{said}");
            assert!(!said.contains(wrong), "{said}");
        }
    }

    #[test]
    fn a_socket_is_named_as_libpq_finds_it() {
        let path = |text| socket(text).map(|path| path.display().to_string());
        assert_eq!(path("/run/osprey").unwrap(), "/run/osprey/.s.PGSQL.6432");
        assert_eq!(path("/run/.s.PGSQL.5432").unwrap(), "/run/.s.PGSQL.5432");
        assert!(path("run/osprey").unwrap_err().contains("absolute"));
        assert!(
            path(&format!("/{}", "x".repeat(120)))
                .unwrap_err()
                .contains("longer")
        );
    }

    #[test]
    fn a_mode_is_octal() {
        assert_eq!(mode("0660"), Ok(0o660));
        for wrong in ["", "0888", "1777", "rw"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
