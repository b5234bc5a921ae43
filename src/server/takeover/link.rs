//! The connection between two processes: messages with their length in front, and descriptors beside
//! single bytes.
//!
//! Versions may differ: fields and purposes that are not known are passed over, and what cannot work
//! has another [`PROTOCOL`].

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What both sides must speak.
pub(crate) const PROTOCOL: u32 = 1;
/// [`Hello::request`]: to be given the sockets.
pub(crate) const TAKE_OVER: &str = "take-over";
/// [`Hello::request`]: to tell of the last sessions.
pub(crate) const REPORT: &str = "report";
/// The longest message: key records by the hundred thousand.
const LONGEST: usize = 64 << 20;
/// How long one message may take, unless it waits for something.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the one that connects says first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    pub(crate) version: String,
    pub(crate) request: String,
}

/// The answer to [`TAKE_OVER`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) version: String,
    /// The process that gives. The kernel names the one that has opened the socket, which may have been
    /// another one, long before.
    #[serde(default)]
    pub(crate) pid: Option<u32>,
    /// Why there is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refused: Option<String>,
    /// For each, a byte with its descriptor follows.
    #[serde(default)]
    pub(crate) sockets: Vec<Offered>,
}

/// One socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offered {
    pub(crate) purpose: Purpose,
    /// Where it listens, as the configuration says: an address, or a path.
    pub(crate) at: String,
}

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    Clients,
    Metrics,
    Console,
    Takeover,
    /// Something of another version's.
    #[serde(other)]
    Unknown,
}

/// From the next process: it accepts connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Serving {
    /// It has taken the console's socket, too.
    #[serde(default)]
    pub(crate) console: bool,
}

/// From this one: it does not any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Released {
    /// The key records of each upstream.
    #[serde(default)]
    pub(crate) records: Vec<String>,
}

/// From a process that serves its last sessions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) sessions: u64,
    /// With the last report, which is answered by [`Heard`]: key records since the takeover.
    #[serde(default)]
    pub(crate) records: Vec<String>,
    #[serde(default)]
    pub(crate) is_last: bool,
}

/// The answer to the last report.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Heard {}

/// One end of the connection.
#[derive(Debug)]
pub(crate) struct Link(UnixStream);

impl Link {
    /// Connects to whoever listens at `path`; `None`: nobody does.
    ///
    /// # Errors
    ///
    /// Whoever does is of another user, or the system refuses.
    pub(crate) fn connect(path: &Path) -> io::Result<Option<Self>> {
        match UnixStream::connect(path) {
            Ok(stream) => Self::new(stream).map(Some),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The end of a connection that has been made.
    ///
    /// # Errors
    ///
    /// The other end is of another user than this process or root, or the system refuses.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(false)?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
            let why = format!("the other process is of user {}", peer.uid.as_raw());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
        }
        stream.set_write_timeout(Some(PATIENCE))?;
        let link = Self(stream);
        link.wait(PATIENCE)?;
        Ok(link)
    }

    /// The process at the other end.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0).ok()?;
        u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
    }

    /// How long the next message may be waited for.
    pub(crate) fn wait(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))
    }

    /// Sends a message.
    pub(crate) fn say<T: Serialize>(&self, message: &T) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).ok();
        let length = length.filter(|length| *length as usize <= LONGEST);
        let length = length.ok_or_else(|| invalid("a message is too long"))?;
        let mut stream = &self.0;
        stream.write_all(&[&length.to_be_bytes()[..], &text].concat())
    }

    /// The next message.
    pub(crate) fn hear<T: DeserializeOwned>(&self) -> io::Result<T> {
        let mut stream = &self.0;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > LONGEST {
            return Err(invalid("a message is too long"));
        }
        let mut text = Vec::new();
        let read = stream.take(length as u64).read_to_end(&mut text)?;
        if read < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&text)?)
    }

    /// Sends a descriptor.
    pub(crate) fn give(&self, descriptor: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptors = [descriptor];
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
        let byte = [IoSlice::new(&[0])];
        sendmsg(self.0.as_fd(), &byte, &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next descriptor.
    pub(crate) fn take(&self) -> io::Result<OwnedFd> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut slice = [IoSliceMut::new(&mut byte)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        recvmsg(self.0.as_fd(), &mut slice, &mut control, flags)?;
        let mut taken = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let taken = taken.next().and_then(|mut descriptors| descriptors.next());
        taken.ok_or_else(|| invalid("a socket is missing"))
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn messages_and_sockets_arrive_in_their_order() {
        let (one, other) = UnixStream::pair().unwrap();
        let (one, other) = (Link::new(one).unwrap(), Link::new(other).unwrap());
        assert_eq!(other.peer_pid(), Some(std::process::id()));
        let sockets: Vec<_> = (0..3)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        one.say(&Serving { console: true }).unwrap();
        for socket in &sockets {
            one.give(socket.as_fd()).unwrap();
        }
        one.say(&Released {
            records: vec!["x".into()],
        })
        .unwrap();
        drop(one);
        assert!(other.hear::<Serving>().unwrap().console);
        for socket in &sockets {
            let taken = TcpListener::from(other.take().unwrap());
            assert_eq!(taken.local_addr().unwrap(), socket.local_addr().unwrap());
        }
        assert_eq!(other.hear::<Released>().unwrap().records, ["x"]);
        assert!(other.hear::<Released>().is_err(), "it has ended");
    }

    #[test]
    fn another_version_is_understood_as_far_as_possible() {
        let offer: Offer = serde_json::from_str(
            r#"{"version": "9.9.9", "colour": 1, "sockets": [
                {"purpose": "telepathy", "at": "x", "since": 1}, {"purpose": "clients", "at": "[::1]:1"}]}"#,
        )
        .unwrap();
        let purposes: Vec<_> = offer.sockets.iter().map(|socket| socket.purpose).collect();
        assert_eq!(purposes, [Purpose::Unknown, Purpose::Clients]);
        assert_eq!(offer.refused, None);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for wrong in [&b"\xff\xff\xff\xff"[..], b"\0\0\0\x02{", b"\0\0\0\x02xx"] {
            let (mut one, other) = UnixStream::pair().unwrap();
            one.write_all(wrong).unwrap();
            drop(one);
            assert!(
                Link::new(other).unwrap().hear::<Hello>().is_err(),
                "{wrong:?}"
            );
        }
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(b"x").unwrap();
        assert!(Link::new(other).unwrap().take().is_err(), "a byte alone");
    }
}
