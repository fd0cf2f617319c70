//! The socket that a host listens at: its owner's alone.

use replug_host::failure::{Code, Failure};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::net::{UnixListener, UnixStream, unix::SocketAddr};

/// How long to wait after a connection that could not be accepted: the usual
/// reason, too many open files, does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The host cannot listen.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    /// Somebody answers there.
    #[error("another process listens at {}", .0.display())]
    Live(PathBuf),
    /// Something else is in the way, and is left alone.
    #[error("{} is there already, and is not a socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot listen at {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
}

impl Failure for SocketError {
    fn code(&self) -> Code {
        Code::HostSocket
    }
}

/// A socket that accepts connections of this user and of root.
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

/// Removes the socket's file when it is dropped.
pub(super) struct LeftOver(PathBuf);

impl Drop for LeftOver {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Listens. A socket that nobody answers at was left by a process that
    /// died, and is replaced.
    pub(super) async fn listen(path: PathBuf) -> Result<Socket, SocketError> {
        let refused = |source| SocketError::Listen { path: path.clone(), source };
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(refused(error)),
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NoSocket(path)),
            Ok(_) => match UnixStream::connect(&path).await {
                Ok(_) => return Err(SocketError::Live(path)),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(&path).map_err(refused)?;
                }
                Err(error) => return Err(refused(error)),
            },
        }
        let listener = UnixListener::bind(&path).map_err(refused)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(refused)?;
        let owner = fs::metadata(&path).map_err(refused)?.uid();
        Ok(Socket { listener, path, owner })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What to drop when nobody is to find the socket any more.
    pub(super) fn left_over(&self) -> LeftOver {
        LeftOver(self.path.clone())
    }

    fn is_allowed(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == self.owner)
    }
}

impl axum::serve::Listener for Socket {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) if self.is_allowed(&stream) => return (stream, address),
                Ok(_) => tracing::warn!("a connection of another user was refused"),
                Err(error) => {
                    tracing::warn!(%error, "a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}
