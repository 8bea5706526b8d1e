//! The life of one connection.

use std::future::{pending, poll_fn};
use std::hash::{BuildHasher as _, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use h2::RecvStream;
use h2::server::{Builder, Connection, SendResponse};
use http::Request;
use prost::bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::keep_alive::KeepAlive;
use super::{ConnectionOptions, SHOULD_RATE_LIMIT, SharedSite, Timeout, routed, unary};

/// Requests in flight on one connection. Envoy turns a refused stream into an error, so this is a last resort.
const STREAMS_MAX: u32 = 4_096;
/// What a client may send before it is read, of one call and of all of a connection.
const WINDOW: u32 = 1 << 20;
/// Bytes of a call's headers, names and values.
const HEADERS_MAX: u32 = 16 << 10;
/// What small frames that wait to be read may cost beyond their bytes, at 256 a frame: enough for two in every stream.
const SMALL_FRAMES_MAX: usize = 2 * 256 * STREAMS_MAX as usize;
/// Calls after which a connection lets the thread's others have a turn, if it still has more.
const TURN: usize = 512;
/// What a connection that has sent nothing yet is still waited for once the process ends.
const PREFACE_AT_END: Duration = Duration::from_millis(500);

type Call = (Request<RecvStream>, SendResponse<Bytes>);

/// Why a connection ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The peer broke HTTP/2's rules, or the connection is gone.
    #[error("http/2: {0}")]
    Http2(#[from] h2::Error),
    /// The peer did not begin to speak HTTP/2.
    #[error("no http/2 preface in time")]
    NoPreface,
    /// The peer did not answer a ping.
    #[error("no sign of life")]
    Silent,
}

/// Serves a connection until it ends: by its peer, by age, or some time after `stop` turned true.
///
/// # Errors
/// A peer that does not speak HTTP/2, breaks its rules or does not answer; a connection that broke.
pub async fn serve<S>(stream: S, site: SharedSite, stop: watch::Receiver<bool>) -> Result<(), Broken>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_header_list_size(HEADERS_MAX)
        .data_frame_budget(SMALL_FRAMES_MAX);
    let mut connection = tokio::select! {
        connection = builder.handshake(stream) => connection?,
        () = too_late(site.options.preface_within, stop.clone()) => return Err(Broken::NoPreface),
    };
    let mut keep_alive = KeepAlive::new(connection.ping_pong(), site.options.keep_alive);
    let mut end = End::new(&site.options, stop);
    let mut calls = Vec::new();
    let mut answered = 0;
    // Most calls are over when they are first polled, and leave their place to the next one.
    let mut place = Box::pin(None);
    loop {
        let state = poll_fn(|cx| {
            if keep_alive.poll_dead(cx).is_ready() {
                return Poll::Ready(Err(Broken::Silent));
            }
            if end.poll_cut(cx, &mut connection).is_ready() {
                return Poll::Ready(Ok(State::Closed));
            }
            gather(cx, &mut connection, &mut calls)
        });
        if state.await? == State::Closed {
            return Ok(());
        }
        answered += calls.len();
        for (request, respond) in calls.drain(..) {
            if request.uri().path() != SHOULD_RATE_LIMIT {
                tokio::spawn(routed::call(site.routes.clone(), request, respond));
                continue;
            }
            match unary::admit(&request) {
                Ok(timeout) => {
                    let call = unary::call(Arc::clone(&site), timeout, request.into_body());
                    begin(&mut place, call, timeout, respond);
                }
                Err(refusal) => unary::refuse(refusal, respond),
            }
        }
        if answered >= TURN {
            answered = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Whether a connection has more to come.
#[derive(PartialEq, Eq)]
enum State {
    Open,
    Closed,
}

/// Takes the calls that have arrived, up to a turn's, so that their answers leave together.
fn gather<S>(
    cx: &mut Context<'_>,
    connection: &mut Connection<S, Bytes>,
    calls: &mut Vec<Call>,
) -> Poll<Result<State, Broken>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while calls.len() < TURN {
        match connection.poll_accept(cx) {
            Poll::Ready(Some(call)) => calls.push(call?),
            Poll::Ready(None) => return Poll::Ready(Ok(State::Closed)),
            Poll::Pending if calls.is_empty() => return Poll::Pending,
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(State::Open))
}

/// Polls a call once: with its message there and its counters in memory that is all, and costs no task. What has to wait gets a
/// task of its own, whose waker takes the place of the one that does nothing.
fn begin<F>(place: &mut Pin<Box<Option<F>>>, call: F, timeout: Timeout, respond: SendResponse<Bytes>)
where
    F: Future<Output = unary::Outcome> + Send + 'static,
{
    place.set(Some(call));
    let mut cx = Context::from_waker(Waker::noop());
    match place.as_mut().as_pin_mut().map(|call| call.poll(&mut cx)) {
        Some(Poll::Ready(outcome)) => {
            place.set(None);
            unary::reply(outcome, respond);
        }
        _ => {
            let waiting = std::mem::replace(place, Box::pin(None));
            tokio::spawn(unary::wait(waiting, timeout, respond));
        }
    }
}

/// How a connection comes to its end.
enum End {
    /// It is asked to go when this is ready; the value says whether it is for its age.
    Ahead {
        asked: Pin<Box<dyn Future<Output = bool> + Send>>,
        grace: Option<Duration>,
    },
    /// It was asked, and is cut when this is ready. A process that ends cuts it in its own time.
    Asked(Option<Pin<Box<Sleep>>>),
}

impl End {
    fn new(options: &ConnectionOptions, stop: watch::Receiver<bool>) -> Self {
        let age = options.age.map(spread);
        let asked = async move {
            tokio::select! {
                () = stopped(stop) => false,
                () = wait(age) => true,
            }
        };
        Self::Ahead {
            asked: Box::pin(asked),
            grace: options.age_grace,
        }
    }

    /// Asks the connection to go when it is time. Ready when it is to be cut.
    fn poll_cut<S>(&mut self, cx: &mut Context<'_>, connection: &mut Connection<S, Bytes>) -> Poll<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Self::Ahead { asked, grace } = self {
            let aged = ready!(asked.as_mut().poll(cx));
            connection.graceful_shutdown();
            *self = Self::Asked(grace.filter(|_| aged).map(|grace| Box::pin(sleep(grace))));
        }
        match self {
            Self::Asked(Some(timer)) => timer.as_mut().poll(cx),
            _ => Poll::Pending,
        }
    }
}

/// An error is a sender that is gone, which is a stop as well.
async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

/// What is waited for the first bytes of HTTP/2. A client that has just connected is still heard when the process ends.
async fn too_late(within: Duration, stop: watch::Receiver<bool>) {
    let at_end = async {
        stopped(stop).await;
        sleep(PREFACE_AT_END).await;
    };
    tokio::select! {
        () = at_end => {}
        () = sleep(within) => {}
    }
}

/// Nine to eleven tenths of an age: connections that began together do not end together.
fn spread(age: Duration) -> Duration {
    // A hasher's keys are random, each time anew.
    let thousandths = u32::try_from(RandomState::new().hash_one(0_u8) % 201).unwrap_or_default();
    age / 1_000 * (900 + thousandths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_spread_by_a_tenth() {
        let age = Duration::from_secs(1_000);
        let ages: Vec<u64> = (0..2_000).map(|_| spread(age).as_secs()).collect();
        let (least, most) = (ages.iter().min().copied(), ages.iter().max().copied());
        assert!((Some(900)..=Some(905)).contains(&least), "{least:?}");
        assert!((Some(1_095)..=Some(1_100)).contains(&most), "{most:?}");
    }
}
