//! A TCP proxy inside the test, which does to a connection what a bad network does.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::ports::free_port;

/// How many bytes of one direction can be under way in it: what comes on top waits in the sender's socket.
const HELD_BYTES_MAX: usize = 4 << 20;
const CHUNK_BYTES: usize = 64 << 10;
const CONNECTIONS_MAX: usize = 1_000;
const SET_WITHIN: Duration = Duration::from_secs(10);

/// What happens to what comes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    #[default]
    Pass,
    /// Each answer comes this much later. The order is kept, and nobody waits for anybody else.
    Delay(Duration),
    /// Nothing moves, in both directions, and goes on afterwards: as packets that are lost and sent again. New connections are
    /// taken and stand still as well.
    Hold,
    /// All is read and thrown away, in both directions. A connection that met this stays mute for ever, as behind a firewall
    /// that has forgotten it; those made afterwards are well.
    Swallow,
    /// Nobody listens, and the connections are cut.
    Refuse,
}

/// What all of its tasks look at.
#[derive(Clone, Copy, Debug, Default)]
struct Orders {
    mode: Mode,
    /// Connections of an earlier one are cut.
    generation: u64,
    ended: bool,
}

/// What came by so far.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    asked_bytes: AtomicU64,
    answered_bytes: AtomicU64,
}

/// A proxy on a loopback port of its own, on one thread; ended when dropped, with all of its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    orders: watch::Sender<Orders>,
    done: mpsc::Receiver<()>,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens, and passes everything on to the server on this loopback port.
    pub fn start(server: u16) -> Self {
        let (orders, seen) = watch::channel(Orders::default());
        let (report, done) = mpsc::channel();
        let counts = Arc::new(Counts::default());
        let listener = (0..10).find_map(|_| {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).ok()?;
            listener.set_nonblocking(true).ok()?;
            Some(listener)
        });
        let listener = listener.expect("no free port for a proxy in ten attempts");
        let address = listener.local_addr().expect("it is bound");
        let counted = Arc::clone(&counts);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("can't start a runtime");
            let target = SocketAddr::from((Ipv4Addr::LOCALHOST, server));
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                accept(listener, address, target, seen, &report, &counted).await;
            });
        });
        Self {
            port: address.port(),
            orders,
            done,
            counts,
            thread: Some(thread),
        }
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// From now on. Returns when it is so for new connections; those that stand follow at once.
    pub fn set(&self, mode: Mode) {
        self.order(|orders| {
            orders.mode = mode;
            orders.generation += u64::from(mode == Mode::Refuse);
        });
    }

    /// Cuts all connections. New ones are taken as before.
    pub fn cut(&self) {
        self.order(|orders| orders.generation += 1);
    }

    /// How many connections it has taken.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// How many bytes it has read from clients, and from the server.
    pub fn bytes(&self) -> (u64, u64) {
        let Counts {
            asked_bytes,
            answered_bytes,
            ..
        } = &*self.counts;
        (
            asked_bytes.load(Ordering::Relaxed),
            answered_bytes.load(Ordering::Relaxed),
        )
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
        self.done
            .recv_timeout(SET_WITHIN)
            .expect("the proxy does not listen to orders");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.orders.send_modify(|orders| orders.ended = true);
        if let Some(thread) = self.thread.take() {
            // An error is a panic of that thread, which has been printed.
            let _ = thread.join();
        }
    }
}

/// Takes connections until the end, and reports each order that it has followed.
async fn accept(
    listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    report: &mpsc::Sender<()>,
    counts: &Arc<Counts>,
) {
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = orders.changed() => {
                let now = *orders.borrow_and_update();
                if changed.is_err() || now.ended {
                    return;
                }
                if now.mode == Mode::Refuse {
                    listener = None;
                } else if listener.is_none() {
                    listener = Some(TcpListener::bind(address).await.expect("somebody took the proxy's port"));
                }
                // An error means that nobody waits for it any more.
                let _ = report.send(());
            }
            taken = next(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => {
                if let Ok((client, _)) = taken {
                    counts.connections.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(connection(client, server, orders.clone(), Arc::clone(counts)));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection to its end: both directions, until either ends or it is cut.
async fn connection(
    client: TcpStream,
    server: SocketAddr,
    orders: watch::Receiver<Orders>,
    counts: Arc<Counts>,
) {
    let generation = orders.borrow().generation;
    let Ok(upstream) = TcpStream::connect(server).await else {
        return;
    };
    if client.set_nodelay(true).is_err() || upstream.set_nodelay(true).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = upstream.into_split();
    let mut cut = orders.clone();
    tokio::select! {
        () = pump(from_client, to_server, orders.clone(), &counts.asked_bytes, false) => {}
        () = pump(from_server, to_client, orders, &counts.answered_bytes, true) => {}
        _ = cut.wait_for(|orders| orders.ended || orders.generation != generation) => {}
    }
}

/// Carries bytes one way. What was read waits for its moment in a queue, while more is read.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut orders: watch::Receiver<Orders>,
    count: &AtomicU64,
    answers: bool,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut waiting, mut held_bytes) = (VecDeque::<(Instant, Vec<u8>)>::new(), 0);
    let (mut mute, mut ended) = (false, false);
    while !ended || !waiting.is_empty() {
        let mode = orders.borrow_and_update().mode;
        mute |= mode == Mode::Swallow;
        if mute {
            waiting.clear();
            held_bytes = 0;
        }
        let holds = mode == Mode::Hold && !mute;
        let due = waiting.front().map(|(due, _)| *due).filter(|_| !holds);
        // A timer for a moment that has passed would still take up to a millisecond.
        let is_due = due.is_some_and(|due| due <= Instant::now());
        tokio::select! {
            biased;
            changed = orders.changed() => if changed.is_err() { return },
            () = until(due.filter(|_| !is_due)), if due.is_some() => {
                let Some((_, bytes)) = waiting.pop_front() else { continue };
                held_bytes -= bytes.len();
                if to.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            read = from.read(&mut chunk), if !ended && !holds && held_bytes < HELD_BYTES_MAX => {
                let read = read.unwrap_or(0);
                ended = read == 0;
                count.fetch_add(read as u64, Ordering::Relaxed);
                if !ended && !mute {
                    let late = match mode {
                        Mode::Delay(late) if answers => late,
                        _ => Duration::ZERO,
                    };
                    held_bytes += read;
                    waiting.push_back((Instant::now() + late, chunk[..read].to_vec()));
                }
            }
        }
    }
    // A mute connection does not even tell that the other side has gone.
    if mute {
        std::future::pending::<()>().await;
    }
}

/// Waits for this moment; not at all for none.
async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}
