//! How connections begin, live and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use prost::bytes::Bytes;
use ratekeeper::wire::grpc::{self, Broken, ConnectionOptions, SHOULD_RATE_LIMIT, Site};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;

use super::server::{Server, service};
use super::{Way, asked, run};

/// A server in the test's own runtime, which tells how its connections end.
struct Here {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    ends: mpsc::UnboundedReceiver<Result<(), Broken>>,
}

async fn serve(options: ConnectionOptions) -> Here {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let (ended, ends) = mpsc::unbounded_channel();
    let site = Arc::new(Site {
        service: service().0,
        routes: Routes::default(),
        options,
    });
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (site, stopping, ended) = (Arc::clone(&site), stopping.clone(), ended.clone());
            tokio::spawn(async move {
                let _ = ended.send(grpc::serve(stream, site, stopping).await);
            });
        }
    });
    Here { address, stop, ends }
}

impl Here {
    async fn end(&mut self) -> Result<(), Broken> {
        let end = tokio::time::timeout(Duration::from_secs(5), self.ends.recv());
        end.await.expect("a connection ends").unwrap()
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "sockets keep real time, and so must who watches them"
)]
fn now() -> Instant {
    Instant::now()
}

struct Client {
    send: h2::client::SendRequest<Bytes>,
    ended: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        Self {
            send: send.ready().await.unwrap(),
            ended: tokio::spawn(connection),
        }
    }

    fn begin(&mut self, user: &str) -> Result<h2::client::ResponseFuture, h2::Error> {
        let request = Request::post(format!("http://service{SHOULD_RATE_LIMIT}"))
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        let (response, mut sending) = self.send.send_request(request, false)?;
        sending.send_data(asked(user).into(), true)?;
        Ok(response)
    }

    async fn ask(&mut self, user: &str) -> Result<(), h2::Error> {
        let mut body = self.begin(user)?.await?.into_body();
        while let Some(chunk) = body.data().await {
            chunk?;
        }
        let trailers = body.trailers().await?.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
        Ok(())
    }
}

#[test]
fn a_connection_that_says_nothing_is_closed() {
    run(async {
        let mut here = serve(ConnectionOptions {
            preface_within: Duration::from_millis(100),
            ..ConnectionOptions::default()
        })
        .await;
        for half in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
            let began = now();
            let mut stream = TcpStream::connect(here.address).await.unwrap();
            stream.write_all(half).await.unwrap();
            let end = here.end().await;
            assert!(matches!(end, Err(Broken::NoPreface)), "{end:?}");
            let took = began.elapsed();
            assert!((100..1_000).contains(&took.as_millis()), "{took:?}");
        }
        // Another protocol is told off at once.
        let mut stream = TcpStream::connect(here.address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        let end = here.end().await;
        assert!(matches!(end, Err(Broken::Http2(_))), "{end:?}");
    });
}

/// The peer's HTTP/2 answers pings by itself; a peer whose machine is gone does not.
#[test]
fn a_dead_peer_is_noticed_and_a_silent_one_is_left_alone() {
    let keep_alive = (Duration::from_millis(100), Duration::from_millis(200));
    run(async {
        let mut here = serve(ConnectionOptions {
            keep_alive,
            ..ConnectionOptions::default()
        })
        .await;
        let mut silent = Client::connect(here.address).await;
        let mut dead = TcpStream::connect(here.address).await.unwrap();
        dead.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .unwrap();
        let began = now();
        let end = here.end().await;
        assert!(matches!(end, Err(Broken::Silent)), "{end:?}");
        assert!((300..1_500).contains(&began.elapsed().as_millis()));
        tokio::time::sleep(Duration::from_millis(700)).await;
        silent.ask("alice").await.expect("it is still connected");
    });
}

#[test]
fn an_old_connection_is_asked_to_go_and_loses_no_call() {
    run(async {
        let mut here = serve(ConnectionOptions {
            age: Some(Duration::from_millis(300)),
            ..ConnectionOptions::default()
        })
        .await;
        let began = now();
        let mut client = Client::connect(here.address).await;
        let mut calls = 0;
        while !client.ended.is_finished() {
            // A client that was told to go refuses calls by itself; those that it sent are answered.
            match client.begin("alice") {
                Ok(response) => drop(response.await.expect("what was sent is answered")),
                Err(error) => {
                    assert!(error.is_go_away() || calls > 0, "{error}");
                    break;
                }
            }
            calls += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        here.end().await.expect("a good end");
        let took = began.elapsed();
        assert!((270..900).contains(&took.as_millis()), "{took:?}");
        assert!(calls > 10, "{calls} calls");
    });
}

#[test]
fn a_connection_that_does_not_go_is_cut() {
    run(async {
        let mut here = serve(ConnectionOptions {
            age: Some(Duration::from_millis(100)),
            age_grace: Some(Duration::from_millis(200)),
            ..ConnectionOptions::default()
        })
        .await;
        let began = now();
        let mut client = Client::connect(here.address).await;
        let never = client.begin("never").unwrap();
        here.end().await.expect("it is no fault");
        let took = began.elapsed();
        assert!((290..1_200).contains(&took.as_millis()), "{took:?}");
        assert!(never.await.is_err());
    });
}

#[test]
fn at_the_end_open_calls_are_answered_and_new_connections_heard() {
    run(async {
        let mut here = serve(ConnectionOptions::default()).await;
        let mut busy = Client::connect(here.address).await;
        let later = busy.begin("later-200").unwrap();
        let mut mute = TcpStream::connect(here.address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        here.stop.send_replace(true);
        let mut late = Client::connect(here.address).await;
        late.ask("alice").await.expect("who is connected is heard");
        let response = later.await.expect("an open call is answered");
        assert_eq!(response.status(), 200);
        drop(response);
        let ends = [here.end().await, here.end().await, here.end().await];
        let silent = ends.iter().filter(|end| matches!(end, Err(Broken::NoPreface)));
        assert_eq!(silent.count(), 1, "{ends:?}");
        let mut settings = Vec::new();
        mute.read_to_end(&mut settings).await.expect("it is closed");
    });
}

/// The whole worker ends when its connections have.
#[test]
fn a_drain_ends() {
    let mut server = Server::start(Way::Below);
    let address = server.address;
    let client = std::thread::spawn(move || {
        run(async {
            let mut client = Client::connect(address).await;
            let mut calls = 0_u32;
            while let Ok(response) = client.begin("alice") {
                match response.await {
                    Ok(_) => calls += 1,
                    // It came behind the farewell, which says that nothing of it has run.
                    Err(error) => {
                        assert!(
                            error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM),
                            "{error}"
                        );
                        break;
                    }
                }
            }
            calls
        })
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.drain(Duration::from_secs(5)), "it hangs");
    assert!(client.join().unwrap() > 10);
}
