//! The process that takes over.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::link::{Hello, Link, Offer, Offered, PROTOCOL, Purpose, Released, Serving, TAKE_OVER};

/// How long the other process may take to stop accepting.
const RELEASE: Duration = Duration::from_secs(30);

/// The process that has the sockets, and the sockets that it has given.
pub(crate) struct Predecessor {
    link: Link,
    version: String,
    sockets: Vec<(Offered, OwnedFd)>,
}

impl Predecessor {
    /// Asks whoever listens at `path`; `None`: nobody does.
    ///
    /// # Errors
    ///
    /// It gives nothing: for a reason that it says, or since it does not answer.
    pub(crate) fn find(path: &Path) -> io::Result<Option<Self>> {
        let Some(link) = Link::connect(path)? else {
            return Ok(None);
        };
        link.say(&Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            request: TAKE_OVER.to_owned(),
        })?;
        let offer: Offer = link.hear()?;
        if let Some(why) = offer.refused {
            return Err(io::Error::other(why));
        }
        let sockets = offer.sockets.into_iter();
        let sockets = sockets.map(|offered| Ok((offered, link.take()?)));
        let sockets = sockets.collect::<io::Result<Vec<_>>>()?;
        tracing::info!(
            pid = offer.pid,
            version = offer.version,
            sockets = sockets.len(),
            "taking over from another process"
        );
        Ok(Some(Self {
            link,
            version: offer.version,
            sockets,
        }))
    }

    /// The socket that it has for this purpose and place, each once.
    pub(crate) fn take(&mut self, purpose: Purpose, at: &str) -> Option<OwnedFd> {
        let wanted = |(offered, _): &(Offered, _)| offered.purpose == purpose && offered.at == at;
        let at = self.sockets.iter().position(wanted)?;
        Some(self.sockets.remove(at).1)
    }

    /// Says that this process accepts connections, and waits until the other one does not any more;
    /// returns the key records of each of its upstreams.
    pub(crate) fn release(self, console: bool) -> Vec<String> {
        for (left, _) in &self.sockets {
            tracing::info!(
                address = left.at,
                "no longer listened on: the configuration does not name it"
            );
        }
        let released = (|| {
            self.link.say(&Serving { console })?;
            self.link.wait(RELEASE)?;
            self.link.hear::<Released>()
        })();
        match released {
            Ok(released) => {
                let version = self.version;
                tracing::info!(
                    version,
                    "the other process has left its sockets to this one"
                );
                released.records
            }
            Err(error) => {
                // It has ended, or hangs: this process has the sockets all the same.
                tracing::warn!(%error, "the process that was taken over from did not say that it stopped");
                Vec::new()
            }
        }
    }
}
