//! Binding the admin socket: for the proxy's own user, and the group that it was told.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::Gid;
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Why the admin socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("the path of the admin socket is taken by a file that is not a socket")]
    NoSocket,
    #[error(
        "another proxy answers on this admin socket; \
         name a pid file that differs in more than its extension"
    )]
    Answered,
    #[error(
        "group {} cannot get access, allowed: a group that the proxy is in: {error}",
        group.as_raw()
    )]
    Group { group: Gid, error: io::Error },
    #[error(transparent)]
    System(#[from] io::Error),
}

impl BindError {
    /// Whether the disk is at fault, which may pass.
    pub fn may_pass(&self) -> bool {
        match self {
            // Without a number it is not the kernel's: the path is too long for a socket.
            BindError::System(error) => error.raw_os_error().is_some(),
            BindError::NoSocket | BindError::Answered | BindError::Group { .. } => false,
        }
    }
}

/// Binds the admin socket at `path`, mode 0600, or 0660 for a `group`. Whoever holds the pid file
/// beside it may replace a socket that a dead proxy left.
pub fn bind(path: &Path, group: Option<Gid>) -> Result<UnixListener, BindError> {
    /// Of clients that are not accepted yet, as tokio has it.
    const WAITING: i32 = 1024;
    let address = SockAddr::unix(path)?;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
        Ok(found) if found.is_dir() => return Err(io::Error::from(Errno::ISDIR).into()),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NoSocket),
        Ok(_) if somebody_answers(&address)? => return Err(BindError::Answered),
        Ok(_) => std::fs::remove_file(path)?,
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    // The file gets the mode that the socket has at the bind, so that there is no moment at which others
    // could connect. A umask would do that too, for all threads.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(io::Error::from)?;
    socket.bind(&address)?;
    let served = share(path, group).and_then(|()| {
        socket.listen(WAITING)?;
        Ok(UnixListener::from_std(socket.into())?)
    });
    served.inspect_err(|_| {
        // Best effort: a socket that nobody serves is replaced at the next start.
        let _ = std::fs::remove_file(path);
    })
}

/// Lets `group` in. Whoever else can change the socket's folder is trusted with the socket, too.
fn share(path: &Path, group: Option<Gid>) -> Result<(), BindError> {
    let Some(group) = group else { return Ok(()) };
    let shared = std::os::unix::fs::lchown(path, None, Some(group.as_raw()))
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o660)));
    shared.map_err(|error| BindError::Group { group, error })
}

fn somebody_answers(address: &SockAddr) -> io::Result<bool> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    match socket.connect(address) {
        Ok(()) => Ok(true),
        // Its accept queue is full.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(false),
        Err(error) => Err(error),
    }
}
