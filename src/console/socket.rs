//! The Unix socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::connection::{Connection, Login, Way};
use super::office::Office;
use super::serve::serve;

/// After a failed accept (no descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket, and its file.
pub(crate) struct Socket {
    listener: StdListener,
    file: SocketFile,
}

/// The file of a socket. It goes when this is dropped, if it is still the same.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Listens at `path`, in the place of a socket there that nobody listens at any more.
    ///
    /// # Errors
    ///
    /// Somebody does, something else is there, or the system refuses.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                if StdStream::connect(path).is_ok() {
                    let why = "another process listens there";
                    return Err(io::Error::new(io::ErrorKind::AddrInUse, why));
                }
                fs::remove_file(path)?;
            }
            Ok(_) => {
                let why = "there is a file of another kind";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = StdListener::bind(path)?;
        // Between these two, who connects is still asked for its uid.
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path)?.ino(),
        };
        Ok(Self { listener, file })
    }

    /// Begins to serve on `runtime`.
    pub(super) fn serve(self, office: Arc<Office>, runtime: &Handle) -> SocketFile {
        let Self { listener, file } = self;
        runtime.spawn(accept(listener, office));
        file
    }
}

/// Accepts until the future is dropped.
async fn accept(listener: StdListener, office: Arc<Office>) {
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the console's socket cannot be served");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                tokio::spawn(accepted(client, Arc::clone(&office)));
            }
            Err(error) => {
                tracing::warn!(%error, "console: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A process that has taken over has a file of its own there.
        let same = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if same {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn accepted(client: UnixStream, office: Arc<Office>) {
    let Ok(peer) = client.peer_cred() else {
        return;
    };
    let limit = office.world.shared.settings.load().limits.greeting_timeout;
    let connection = Connection {
        office,
        from: None,
        way: Way::Peer { uid: peer.uid() },
        login: Mutex::new(Login::default()),
    };
    let deadline = Instant::now() + limit;
    serve(Box::new(client), false, Arc::new(connection), deadline).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".s.PGSQL.6432");
        let first = Socket::bind(&path, 0o600).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = Socket::bind(&path, 0o600).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // As a process leaves it that was killed.
        drop(StdListener::bind(&path).unwrap());
        let second = Socket::bind(&path, 0o660).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(second);
        assert!(path.exists(), "it is another one's");
        let other = Socket::bind(&path, 0o600).err().unwrap();
        assert_eq!(other.kind(), io::ErrorKind::AlreadyExists);
    }
}
