//! One HTTP/2 connection, kept up: when it dies another one is opened, with a jittered back-off.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

use crate::wire;

/// A try to connect takes no longer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_MAX: Duration = Duration::from_millis(500);
/// Answers are small: neither window should ever make a server wait.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
/// Requests that were given up: answers to them may still come, and must not count as a protocol error.
const RESET_STREAMS_MAX: usize = 1 << 20;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    pub authority: String,
    /// The whole URI of the method.
    pub uri: http::Uri,
}

impl Target {
    /// From `host:port` or `http://host:port`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let authority = text
            .strip_prefix("http://")
            .unwrap_or(text)
            .trim_end_matches('/')
            .to_owned();
        let uri = format!("http://{authority}{}", wire::PATH).parse::<http::Uri>();
        match uri {
            Ok(uri) if uri.port_u16().is_some() && uri.path() == wire::PATH => Ok(Self { authority, uri }),
            _ => Err(format!("{text}: expected HOST:PORT")),
        }
    }
}

/// What became of a link's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct LinkStats {
    /// Connections that came up.
    pub opened: u64,
    /// Connections that ended, or were about to, before the run did.
    pub lost: u64,
    /// Tries that failed.
    pub failed: u64,
}

impl LinkStats {
    /// Adds another link's.
    pub fn merge(&mut self, other: Self) {
        self.opened += other.opened;
        self.lost += other.lost;
        self.failed += other.failed;
    }
}

/// A place in the round robin: always at most one connection that takes new requests.
#[derive(Debug)]
pub struct Link {
    target: Target,
    sender: RefCell<Option<SendRequest<Bytes>>>,
    /// Which of the link's connections is the current one, counted from 1.
    epoch: Cell<u64>,
    came_up: Notify,
    went_down: Notify,
    stats: Cell<LinkStats>,
}

impl Link {
    /// Not connected yet; see [`Self::keep`].
    pub fn new(target: Target) -> Self {
        Self {
            target,
            sender: RefCell::new(None),
            epoch: Cell::new(0),
            came_up: Notify::new(),
            went_down: Notify::new(),
            stats: Cell::default(),
        }
    }

    /// The URI requests are for.
    pub fn uri(&self) -> http::Uri {
        self.target.uri.clone()
    }

    /// What happened so far.
    pub fn stats(&self) -> LinkStats {
        self.stats.get()
    }

    /// Whether new requests can be sent.
    pub fn is_up(&self) -> bool {
        self.sender.borrow().is_some()
    }

    /// The epoch of the current connection.
    pub fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// A handle of one's own to the current connection.
    pub fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.sender.borrow().clone()
    }

    /// Returns when there is a connection.
    pub async fn up(&self) {
        while !self.is_up() {
            self.came_up.notified().await;
        }
    }

    /// The connection of this epoch takes no new requests; those in flight on it go on.
    pub fn broke(&self, epoch: u64) {
        if self.epoch.get() == epoch && self.sender.borrow_mut().take().is_some() {
            self.count(|stats| stats.lost += 1);
            self.went_down.notify_one();
        }
    }

    /// Keeps the link up; never returns.
    pub async fn keep(self: Rc<Self>, seed: u64) {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut back_off = BACK_OFF_FIRST;
        loop {
            match timeout(CONNECT_TIMEOUT, connect(&self.target.authority)).await {
                Ok(Ok((sender, connection))) => {
                    back_off = BACK_OFF_FIRST;
                    self.attach(sender, connection);
                    self.went_down.notified().await;
                }
                Ok(Err(_)) | Err(_) => self.count(|stats| stats.failed += 1),
            }
            sleep(back_off.mul_f64(random.random_range(0.5..1.0))).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        }
    }

    fn attach(self: &Rc<Self>, sender: SendRequest<Bytes>, connection: Connection<TcpStream, Bytes>) {
        let epoch = self.epoch.get() + 1;
        self.epoch.set(epoch);
        *self.sender.borrow_mut() = Some(sender);
        self.count(|stats| stats.opened += 1);
        self.came_up.notify_waiters();
        let link = Rc::clone(self);
        spawn_local(async move {
            // Why it ended shows in its requests.
            let _ = connection.await;
            link.broke(epoch);
        });
    }

    fn count(&self, change: impl FnOnce(&mut LinkStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }
}

async fn connect(authority: &str) -> io::Result<(SendRequest<Bytes>, Connection<TcpStream, Bytes>)> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_reset_streams(RESET_STREAMS_MAX)
        .max_local_error_reset_streams(None);
    let (sender, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    Ok((sender, connection))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        for good in ["localhost:8081", "http://127.0.0.1:8081", "http://[::1]:80/"] {
            assert!(Target::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "localhost", "https://a:1", "a:b", "a:1/path", "a b:1"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
