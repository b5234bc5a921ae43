//! What a process that was taken over from tells of its last sessions: to whoever listens at the
//! socket by then, which may be yet another process.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::link::{Heard, Hello, Link, PROTOCOL, REPORT, Report};

/// Between two reports.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// The thread that reports.
pub(crate) struct Reporting {
    thread: JoinHandle<bool>,
    end: Sender<Vec<String>>,
}

impl Reporting {
    /// Begins to report how many sessions are left.
    ///
    /// # Errors
    ///
    /// There is no thread to be had.
    pub(crate) fn start(
        path: PathBuf,
        sessions: impl Fn() -> u64 + Send + 'static,
    ) -> io::Result<Self> {
        let (end, ended) = channel();
        let thread = std::thread::Builder::new()
            .name("osprey-takeover".into())
            .spawn(move || report(&path, &sessions, &ended))?;
        Ok(Self { thread, end })
    }

    /// Reports for the last time, with what was learned; false: nobody has heard it. Blocks.
    pub(crate) fn end(self, records: Vec<String>) -> bool {
        let _ = self.end.send(records);
        self.thread.join().unwrap_or(false)
    }
}

fn report(path: &Path, sessions: &impl Fn() -> u64, ended: &Receiver<Vec<String>>) -> bool {
    let mut link = None;
    loop {
        let report = Report {
            sessions: sessions(),
            records: Vec::new(),
            is_last: false,
        };
        // Whoever does not hear this may hear the next one.
        let _ = say(&mut link, path, &report);
        match ended.recv_timeout(INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
            Ok(records) => {
                let last = Report {
                    sessions: 0,
                    records,
                    is_last: true,
                };
                return tell_last(&mut link, path, &last).is_ok()
                    // The one that listened before has gone: another one may listen now.
                    || tell_last(&mut None, path, &last).is_ok();
            }
        }
    }
}

fn tell_last(link: &mut Option<Link>, path: &Path, last: &Report) -> io::Result<()> {
    say(link, path, last)?;
    let link = link.as_ref().ok_or(io::ErrorKind::NotConnected)?;
    link.hear::<Heard>().map(drop)
}

/// Sends a report, by the connection that there is, or a new one.
fn say(link: &mut Option<Link>, path: &Path, report: &Report) -> io::Result<()> {
    if link.is_none() {
        let new = Link::connect(path)?.ok_or(io::ErrorKind::NotConnected)?;
        new.say(&Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            request: REPORT.to_owned(),
        })?;
        *link = Some(new);
    }
    let said = link.as_ref().map_or(Ok(()), |link| link.say(report));
    if said.is_err() {
        *link = None;
    }
    said
}
