//! The limit of open files. A session takes two descriptors, and the soft limit that shells and
//! containers start with is often 1,024.

use crate::net::descriptors::RESERVE;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one. Returns a warning if even that does not do for
/// `max_sessions`.
pub(super) fn raise_limit(max_sessions: usize) -> Option<String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        // Where it fails, the limit stays what it was, and the warning below tells.
        let _ = setrlimit(Resource::Nofile, raised);
    }
    shortage(getrlimit(Resource::Nofile).current, max_sessions)
}

/// `None` as limit: unlimited.
fn shortage(limit: Option<u64>, max_sessions: usize) -> Option<String> {
    let limit = limit?;
    let needed = (max_sessions as u64)
        .saturating_mul(2)
        .saturating_add(RESERVE);
    (limit < needed).then(|| {
        format!(
            "limits.max_sessions is {max_sessions}, but this process may open {limit} files, \
             enough for {} sessions; raise the limit to {needed} (ulimit -Hn, or LimitNOFILE in \
             the systemd unit) or lower limits.max_sessions",
            limit.saturating_sub(RESERVE) / 2
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_is_told_with_what_would_do() {
        assert_eq!(shortage(None, usize::MAX), None);
        assert_eq!(shortage(Some(20_100), 10_000), None);
        let text = shortage(Some(1024), 10_000).unwrap();
        assert!(
            text.contains("enough for 462 sessions") && text.contains("to 20100"),
            "{text}"
        );
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        assert_eq!(raise_limit(1), None);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
