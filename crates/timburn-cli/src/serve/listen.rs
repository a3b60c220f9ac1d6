//! Where connections come from: a TCP port or a Unix socket.

use std::io::{self, ErrorKind};
use std::net::ToSocketAddrs;
#[cfg(unix)]
use std::path::{Path, PathBuf};

use timburn_core::{Error, Result};
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpSocket};

use super::stream::Socket;

/// Connections that the system keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// Host and port; port 0 is any.
    Tcp(String, u16),
    /// A socket's path.
    #[cfg(unix)]
    Unix(PathBuf),
}

/// A place that is listened at.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener, Removed),
}

/// A socket's file, removed when dropped.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Removed(PathBuf);

#[cfg(unix)]
impl Drop for Removed {
    fn drop(&mut self) {
        // It may be gone already, which is what was wanted.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Begins to listen.
    ///
    /// # Errors
    /// [`Error::Argument`] for a port that is taken or not allowed, a host that is none of this machine's, and for a path that something else
    /// is at; [`Error::Io`] for anything else that the system says.
    pub(super) fn bind(address: &Address) -> Result<Self> {
        match address {
            Address::Tcp(host, port) => tcp(host, *port).map(Self::Tcp),
            #[cfg(unix)]
            Address::Unix(path) => unix(path),
        }
    }

    /// The address as a client writes it.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| String::new(), |address| format!("http://{address}")),
            #[cfg(unix)]
            Self::Unix(_, Removed(path)) => format!("unix:{}", path.display()),
        }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are written whole: nothing is gained by holding their ends back. A socket that refuses works all the same.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            #[cfg(unix)]
            Self::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

fn tcp(host: &str, port: u16) -> Result<TcpListener> {
    let unknown = |error: io::Error| Error::Argument {
        name: "--host",
        value: host.to_owned(),
        expected: format!("an address of this machine, such as 127.0.0.1 or 0.0.0.0 ({error})"),
    };
    // `localhost` may stand for several addresses: the first that can be had.
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs().map_err(unknown)? {
        let listen = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            // A port that is merely cooling down after an earlier server is free.
            #[cfg(unix)]
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match listen() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    let refused = |expected: &str| Err(Error::Argument { name: "--port", value: port.to_string(), expected: expected.into() });
    match last.kind() {
        ErrorKind::AddrInUse => refused("a port that no other program listens on; choose another one, or 0 for any that is free"),
        ErrorKind::PermissionDenied => refused("a port that this user may listen on, which those below 1024 are not"),
        ErrorKind::AddrNotAvailable => Err(unknown(last)),
        _ => Err(Error::io("listen on", format!("{host}:{port}"))(last)),
    }
}

#[cfg(unix)]
fn unix(path: &Path) -> Result<Listener> {
    use std::os::unix::fs::FileTypeExt;
    let refused = |expected: &str| Err(Error::Argument { name: "--unix", value: path.display().to_string(), expected: expected.into() });
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return refused("a path that nothing is at, or the socket of a server that has ended");
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return refused("another path: a server listens on this socket"),
            // Left behind by a server that was killed.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(Error::io("remove", path))?,
            Err(error) => return Err(Error::io("connect to", path)(error)),
        },
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(Error::io("listen on", path))?;
    Ok(Listener::Unix(listener, Removed(path.to_owned())))
}
