//! Accepts connections and deals them to the workers.
//!
//! One acceptor for all: it gives each connection to the worker with the fewest. The kernel's own dealing (SO_REUSEPORT) is by
//! hash and left the busiest of 8 threads with 2.6 times the mean.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};

use super::connection::{Load, Ticket};
use crate::telemetry::Telemetry;

/// A connection on its way to a worker, not yet bound to any runtime.
#[derive(Debug)]
pub enum Accepted {
    /// From a TCP listener.
    Tcp(std::net::TcpStream),
    /// From a unix socket.
    Unix(std::os::unix::net::UnixStream),
}

/// Where a worker takes its connections from.
#[derive(Clone, Debug)]
pub struct WorkerPort {
    /// The queue; the ticket counts the connection from the moment it is dealt.
    pub queue: mpsc::Sender<(Accepted, Ticket)>,
    /// The worker's open connections.
    pub load: Load,
}

/// A bound listener.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket, whose file goes with the listener.
    Unix(UnixListener, SocketFile),
}

/// Removes a socket's file when it is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds a unix socket; a file that a dead process left is replaced.
    ///
    /// # Errors
    /// A path that can't be bound or on which another process listens.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("can't listen on {}: {error}", path.display()),
            )
        };
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(named(io::Error::from(io::ErrorKind::AddrInUse)));
        }
        if path.exists() {
            std::fs::remove_file(path).map_err(named)?;
        }
        let listener = UnixListener::bind(path).map_err(named)?;
        Ok(Self::Unix(listener, SocketFile(path.to_owned())))
    }

    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?))
            }
            Self::Unix(listener, _) => Ok(Accepted::Unix(listener.accept().await?.0.into_std()?)),
        }
    }
}

/// Accepts until `stop` turns true.
pub async fn deal(
    listener: Listener,
    workers: Vec<WorkerPort>,
    connections_max: usize,
    telemetry: Arc<Telemetry>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: connections that end make room.
                tracing::warn!(%error, "connection can't be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                continue;
            }
        };
        let open: usize = workers.iter().map(|worker| worker.load.get()).sum();
        // A worker that ended takes no connections; its load would look like the least.
        let running = workers.iter().filter(|worker| !worker.queue.is_closed());
        let least = running.min_by_key(|worker| worker.load.get());
        let given = match least {
            Some(worker) if open < connections_max => {
                worker.queue.try_send((accepted, worker.load.ticket())).is_ok()
            }
            _ => false,
        };
        if !given {
            // Dropping it closes it; the caller sees a refused connection, not a hanging one.
            telemetry.process.refused_full.increment(1);
        }
    }
}
