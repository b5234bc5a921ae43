//! Starting the next process: the same program, by its path, with the same arguments.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::observe::Health;
use crate::observe::health::State;
use crate::session::Shared;

/// Variables that are meant for one process, and not for those that it starts: the sockets that
/// systemd passes on (`sd_listen_fds(3)`), and whom its watchdog watches (`sd_watchdog_enabled(3)`).
const ONES_OWN: [&str; 4] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// How the next process is started.
#[derive(Debug)]
pub(crate) struct NextProcess {
    program: io::Result<PathBuf>,
    arguments: Vec<OsString>,
    /// The one that was started last; 0: none was.
    pid: AtomicU32,
}

impl NextProcess {
    /// As this process was started. To be asked at its start: the program at this path may be another
    /// version by the time that it is started again.
    pub(crate) fn as_this_one() -> Self {
        Self {
            program: std::env::current_exe(),
            arguments: std::env::args_os().skip(1).collect(),
            pid: AtomicU32::new(0),
        }
    }

    /// Starts it, if it can take over; else the log says why not.
    pub(crate) fn start_if_useful<N>(&self, shared: &Shared<N>, health: &Health) {
        let why = if shared.settings.load().takeover.socket.is_none() {
            "takeover.socket is not set"
        } else if health.state() != State::Ready {
            "this process does not accept connections"
        } else if let Err(error) = self.start() {
            return tracing::error!(%error, "the next process was not started");
        } else {
            return;
        };
        tracing::error!(why, "the next process was not started");
    }

    /// Starts it. It takes over by itself, if it gets that far.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    fn start(&self) -> io::Result<()> {
        if std::process::id() == 1 {
            return Err(io::Error::other(
                "this is the first process of its container, which would end with it: start another \
                 container that takes over",
            ));
        }
        let program = match &self.program {
            Ok(program) => program,
            Err(error) => return Err(io::Error::new(error.kind(), error.to_string())),
        };
        let mut command = Command::new(program);
        command.args(&self.arguments).stdin(Stdio::null());
        for name in ONES_OWN {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let pid = child.id();
        self.pid.store(pid, Ordering::Relaxed);
        tracing::info!(pid, program = %program.display(), "the next process was started");
        // Waits for it, should it end before this one.
        std::thread::Builder::new()
            .name("osprey-next".into())
            .spawn(move || match child.wait() {
                Ok(status) => {
                    tracing::warn!(pid, %status, "the process that was started has ended");
                }
                Err(error) => {
                    tracing::warn!(pid, %error, "cannot wait for the process that was started");
                }
            })?;
        Ok(())
    }

    /// True if `pid` is the process that was started last.
    pub(crate) fn is(&self, pid: Option<u32>) -> bool {
        pid.is_some_and(|pid| pid == self.pid.load(Ordering::Relaxed))
    }
}
