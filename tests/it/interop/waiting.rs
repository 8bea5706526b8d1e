//! Calls that wait: for the rest of a message, or for a decision.

use std::time::Duration;

use h2::Reason;
use h2::client::SendRequest;
use http::Request;
use prost::bytes::Bytes;
use tokio::net::TcpStream;
use tonic::Code as Grpc;

use super::exchange::{Ask, Piece};
use super::server::Server;
use super::{BOTH, Way, asked, run};
use crate::support::eventually;

const SOON: Duration = Duration::from_secs(5);

async fn connect(server: &Server) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn call() -> Request<()> {
    Request::builder()
        .method("POST")
        .uri(format!(
            "http://service{}",
            ratekeeper::wire::grpc::SHOULD_RATE_LIMIT
        ))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// A decision that nobody waits for any more is not waited for.
#[test]
fn a_cancelled_call_is_dropped() {
    for way in BOTH {
        let server = Server::start(way);
        run(async {
            let mut client = connect(&server).await;
            let mut streams = Vec::new();
            for _ in 0..3 {
                let (response, mut sending) = client.send_request(call(), false).unwrap();
                sending.send_data(asked("never").into(), true).unwrap();
                streams.push((response, sending));
            }
            while server.store.waiting() < 3 {
                settle().await;
            }
            streams[1].1.send_reset(Reason::CANCEL);
            while server.store.waiting() > 2 {
                settle().await;
            }
            // The connection is as good as before.
            let (response, mut sending) = client.send_request(call(), false).unwrap();
            sending.send_data(asked("alice").into(), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200, "{way:?}");
            assert_eq!(server.store.waiting(), 2, "{way:?}");
        });
        // The client is gone, and so is what it waited for.
        eventually("nothing is waited for", SOON, || server.store.waiting() == 0);
    }
}

/// A stream that ends before its message does is no call.
#[test]
fn half_a_message_and_a_reset() {
    for way in BOTH {
        let server = Server::start(way);
        run(async {
            let mut client = connect(&server).await;
            let (_response, mut sending) = client.send_request(call(), false).unwrap();
            sending
                .send_data(asked("alice")[..9].to_vec().into(), false)
                .unwrap();
            settle().await;
            sending.send_reset(Reason::CANCEL);
            let (response, mut sending) = client.send_request(call(), false).unwrap();
            sending.send_data(asked("alice").into(), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200, "{way:?}");
        });
    }
}

/// tonic says CANCELLED, gRPC's own servers what is said here. A client has given up by itself at that time.
#[test]
fn a_call_ends_at_its_time() {
    for (way, code) in [
        (Way::Tonic, Grpc::Cancelled),
        (Way::Below, Grpc::DeadlineExceeded),
    ] {
        let server = Server::start(way);
        for body in [
            vec![Piece::Last(asked("never"))],
            vec![Piece::Data(asked("alice"))],
        ] {
            let ask = Ask::new(body).header("grpc-timeout", "50m");
            let seen = run(ask.send(server.address)).unwrap();
            assert_eq!(seen.code(), Some(code as i32), "{way:?}: {seen:?}");
        }
        eventually("nothing is waited for", SOON, || server.store.waiting() == 0);
    }
}

/// Calls that wait do not stop those that need not.
#[test]
fn answers_come_in_their_own_order() {
    for way in BOTH {
        let server = Server::start(way);
        run(async {
            let mut client = connect(&server).await;
            let mut begin = |user: &str| {
                let (response, mut sending) = client.send_request(call(), false).unwrap();
                sending.send_data(asked(user).into(), true).unwrap();
                response
            };
            let (late, soon, now) = (begin("later-300"), begin("later-20"), begin("alice"));
            let mut late = std::pin::pin!(late);
            now.await.unwrap();
            tokio::select! {
                biased;
                _ = &mut late => panic!("{way:?}: the slow one came first"),
                soon = soon => drop(soon.unwrap()),
            }
            late.await.unwrap();
        });
    }
}

/// As many at once as the bound on streams, half of them waiting.
#[test]
fn four_thousand_calls_at_once() {
    let server = Server::start(Way::Below);
    run(async {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let (client, connection) = h2::client::Builder::new()
            .initial_max_send_streams(4_096)
            .initial_connection_window_size(1 << 20)
            // Thousands of small answers that it has not read yet would look like an attack to it.
            .data_frame_budget(16 << 20)
            .handshake::<_, Bytes>(stream)
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut responses = Vec::new();
        for at in 0..4_096 {
            let (response, mut sending) = client.send_request(call(), false).unwrap();
            let user = if at % 2 == 0 { "alice" } else { "later-50" };
            sending.send_data(asked(user).into(), true).unwrap();
            responses.push(response);
        }
        for response in responses {
            let mut body = response.await.unwrap().into_body();
            assert!(body.data().await.unwrap().unwrap().len() > 5);
            assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        }
    });
}
