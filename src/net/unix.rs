//! A listening Unix socket, and its file.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket, and its file.
pub(crate) struct UnixSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket. It goes when this is dropped, if it is this process's and still the same.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
    is_ours: bool,
}

impl UnixSocket {
    /// Listens at `path`, in the place of a socket there that nobody listens at any more.
    ///
    /// # Errors
    ///
    /// Somebody does, something else is there, or the system refuses.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                if UnixStream::connect(path).is_ok() {
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
        let listener = UnixListener::bind(path)?;
        // Between these two, who connects is still asked for its uid.
        let mut socket = Self::adopt(listener, path, mode)?;
        socket.file.is_ours = true;
        Ok(socket)
    }

    /// Takes a socket over that another process has opened at `path`. The file stays that process's
    /// until [`UnixSocket::is_ours_now`].
    ///
    /// # Errors
    ///
    /// The file is gone, or the system refuses.
    pub(crate) fn adopt(listener: UnixListener, path: &Path, mode: u32) -> io::Result<Self> {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        listener.set_nonblocking(true)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: fs::symlink_metadata(path)?.ino(),
            is_ours: false,
        };
        Ok(Self { listener, file })
    }

    /// The socket by itself, and its file.
    pub(crate) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }

    /// The process that had it has left it to this one.
    pub(crate) fn is_ours_now(&mut self) {
        self.file.is_ours = true;
    }

    /// The socket.
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl SocketFile {
    /// Leaves it to the process that has taken the socket over.
    pub(crate) fn leave(mut self) {
        self.is_ours = false;
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A process that has come since may have a file of its own there.
        let same = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if self.is_ours && same {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_nobody_serves_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".s.PGSQL.6432");
        let first = UnixSocket::bind(&path, 0o600).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let taken = UnixSocket::bind(&path, 0o600).err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists());
        // As a process leaves it that was killed.
        drop(UnixListener::bind(&path).unwrap());
        let second = UnixSocket::bind(&path, 0o660).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        drop(second);
        assert!(path.exists(), "it is another one's");
        let other = UnixSocket::bind(&path, 0o600).err().unwrap();
        assert_eq!(other.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn the_file_goes_with_the_process_that_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (listener, file) = UnixSocket::bind(&path, 0o600).unwrap().into_parts();
        let taken = listener.try_clone().unwrap();
        drop(UnixSocket::adopt(taken.try_clone().unwrap(), &path, 0o600).unwrap());
        assert!(path.exists(), "who fails to take over leaves it");
        let mut socket = UnixSocket::adopt(taken, &path, 0o600).unwrap();
        file.leave();
        assert!(path.exists());
        socket.is_ours_now();
        drop(socket);
        assert!(!path.exists());
    }
}
