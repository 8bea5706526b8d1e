//! An RLS server on `h2` alone that answers whatever it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{SendResponse, handshake};
use http::{HeaderMap, HeaderValue, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// What the server says to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Ok,
    OverLimit,
    /// This `grpc-status`, in headers without a body.
    Status(u8),
    /// Trailers say 0, the message is cut off.
    Malformed,
    /// Nothing, ever.
    Silence,
    /// The stream is refused.
    Refuse,
    /// The whole connection is dropped.
    HangUp,
}

/// Decides on the framed message of a request.
pub type Decide = Arc<dyn Fn(&[u8]) -> Answer + Send + Sync>;

/// A running server; ends when it is dropped.
pub struct Stub {
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Stub {
    pub fn start(decide: impl Fn(&[u8]) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen("127.0.0.1:0", 1, Arc::new(decide))
    }

    /// Serves on `threads` threads, each with its share of the connections.
    pub fn listen(address: &str, threads: usize, decide: Decide) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let (stop, mut stopped) = oneshot::channel::<()>();
        let senders: Vec<_> = (0..threads).map(|_| worker(Arc::clone(&decide))).collect();
        thread::spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                for turn in 0.. {
                    tokio::select! {
                        _ = &mut stopped => return,
                        accepted = listener.accept() => {
                            let (stream, _) = accepted.expect("a connection");
                            let stream = stream.into_std().expect("a socket");
                            let _ = senders[turn % senders.len()].send(stream);
                        }
                    }
                }
            });
        });
        Self { address, _stop: stop }
    }
}

fn worker(decide: Decide) -> tokio::sync::mpsc::UnboundedSender<std::net::TcpStream> {
    let (sender, mut streams) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default());
        runtime.expect("a runtime").block_on(async {
            while let Some(stream) = streams.recv().await {
                let stream = TcpStream::from_std(stream).expect("a socket");
                spawn_local(connection(stream, Arc::clone(&decide)));
            }
        });
    });
    sender
}

async fn connection(stream: TcpStream, decide: Decide) {
    stream.set_nodelay(true).expect("a socket");
    let Ok(mut connection) = handshake(stream).await else {
        return;
    };
    let (hang_up, mut hung_up) = tokio::sync::mpsc::unbounded_channel();
    loop {
        tokio::select! {
            biased;
            _ = hung_up.recv() => return,
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    let (decide, hang_up) = (Arc::clone(&decide), hang_up.clone());
                    spawn_local(async move {
                        if answer(request.into_body(), respond, decide).await == Some(Answer::HangUp) {
                            let _ = hang_up.send(());
                        }
                    });
                }
                _ => return,
            }
        }
    }
}

async fn answer(mut body: RecvStream, mut respond: SendResponse<Bytes>, decide: Decide) -> Option<Answer> {
    let message = body.data().await?.ok()?;
    let answer = decide(&message);
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    let status = |value: &str| {
        (
            http::HeaderName::from_static("grpc-status"),
            value.parse().expect("a number"),
        )
    };
    let frame: &'static [u8] = match answer {
        Answer::Ok => b"\0\0\0\0\x02\x08\x01",
        Answer::OverLimit => b"\0\0\0\0\x02\x08\x02",
        Answer::Malformed => b"\0\0\0\0\x02\x08",
        Answer::Status(code) => {
            headers.extend([status(&code.to_string())].map(|(name, value)| (Some(name), value)));
            respond.send_response(response(headers), true).ok()?;
            return Some(answer);
        }
        Answer::Refuse => {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            return Some(answer);
        }
        Answer::Silence => std::future::pending().await,
        Answer::HangUp => return Some(answer),
    };
    let mut stream = respond.send_response(response(headers), false).ok()?;
    stream.send_data(Bytes::from_static(frame), false).ok()?;
    let mut trailers = HeaderMap::with_capacity(1);
    let (name, value): (_, HeaderValue) = status("0");
    trailers.insert(name, value);
    stream.send_trailers(trailers).ok()?;
    Some(answer)
}

fn response(headers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    *response.headers_mut() = headers;
    response
}
