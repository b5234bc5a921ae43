//! The settings of a restart in which the next process takes the listening sockets over.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest path that a Unix socket can have (unix(7): 108 bytes with the zero behind it).
const LONGEST_SOCKET: usize = 107;

/// `[takeover]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takeover {
    /// The Unix socket at which the next process asks for the listening sockets; `None`: none can.
    pub socket: Option<PathBuf>,
    /// How long sessions may stay on the process that was taken over from before it drains. Default
    /// 1 h; `None`: for as long as they like.
    pub drain_after: Option<Duration>,
}

impl Default for Takeover {
    fn default() -> Self {
        Self {
            socket: None,
            drain_after: Some(Duration::from_hours(1)),
        }
    }
}

/// The path of a Unix socket.
pub(super) fn socket(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.ends_with('/') {
        return Err(format!(
            "{text:?} is not the absolute path of a socket, such as \"/run/osprey/takeover\""
        ));
    }
    short_enough(path.to_owned())
}

/// `path`, unless it is longer than a Unix socket's can be.
pub(super) fn short_enough(path: PathBuf) -> Result<PathBuf, String> {
    if path.as_os_str().len() > LONGEST_SOCKET {
        return Err(format!(
            "{} is longer than the {LONGEST_SOCKET} bytes that a socket's path can have",
            path.display()
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_an_absolute_path_that_fits() {
        assert_eq!(socket("/run/o"), Ok(PathBuf::from("/run/o")));
        for wrong in ["", "run/o", "/run/", &format!("/{}", "x".repeat(107))] {
            assert!(socket(wrong).is_err(), "{wrong}");
        }
    }
}
