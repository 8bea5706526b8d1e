//! One call over a connection of its own, as exactly as a client can say it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use h2::Reason;
use http::{HeaderMap, Method, Request};
use prost::bytes::Bytes;
use tokio::net::TcpStream;

/// A part of a request after its headers.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A DATA frame.
    Data(Vec<u8>),
    /// The last one.
    Last(Vec<u8>),
    /// Trailers, which end the stream.
    Trailers,
    /// Nothing for a moment, so that the server works on what it has.
    Pause,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `POST`.
    pub method: Method,
    /// The method's path.
    pub path: &'static str,
    /// Headers besides the path.
    pub headers: Vec<(&'static str, String)>,
    /// What follows; empty if the headers end the stream.
    pub body: Vec<Piece>,
    /// What the server may send before it is read.
    pub window: u32,
}

impl Ask {
    /// A call as gRPC wants it.
    pub fn new(body: Vec<Piece>) -> Self {
        let header = |name, value: &str| (name, value.to_owned());
        Self {
            method: Method::POST,
            path: ratekeeper::wire::grpc::SHOULD_RATE_LIMIT,
            headers: vec![
                header("content-type", "application/grpc"),
                header("te", "trailers"),
            ],
            body,
            window: 65_535,
        }
    }

    /// The same with another value of a header, or one more.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    /// The same without a header.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self
    }

    /// Sends it over a connection of its own.
    ///
    /// # Errors
    /// The reason for which the server reset the stream.
    pub async fn send(&self, address: SocketAddr) -> Result<Seen, Reason> {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(self.window);
        let (client, connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let seen = tokio::time::timeout(Duration::from_secs(10), self.over(client))
            .await
            .expect("it is answered");
        driver.abort();
        seen
    }

    async fn over(&self, client: h2::client::SendRequest<Bytes>) -> Result<Seen, Reason> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("http://service{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let mut client = client.ready().await.unwrap();
        let (response, mut sending) = client
            .send_request(request.body(()).unwrap(), self.body.is_empty())
            .unwrap();
        for piece in &self.body {
            // A server that has answered already may take no more.
            let _ = match piece {
                Piece::Data(bytes) => sending.send_data(Bytes::from(bytes.clone()), false),
                Piece::Last(bytes) => sending.send_data(Bytes::from(bytes.clone()), true),
                Piece::Trailers => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("x-trailer", "1".parse().unwrap());
                    sending.send_trailers(trailers)
                }
                Piece::Pause => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(())
                }
            };
        }
        let reset = |error: h2::Error| error.reason().unwrap_or(Reason::INTERNAL_ERROR);
        let (head, mut incoming) = response.await.map_err(reset)?.into_parts();
        let mut body = Vec::new();
        let mut frames = 0;
        while let Some(chunk) = incoming.data().await {
            let chunk = chunk.map_err(reset)?;
            incoming.flow_control().release_capacity(chunk.len()).unwrap();
            body.extend_from_slice(&chunk);
            frames += 1;
        }
        Ok(Seen {
            status: head.status.as_u16(),
            headers: texts(&head.headers),
            body,
            trailers: incoming.trailers().await.map_err(reset)?.as_ref().map(texts),
            frames,
        })
    }
}

/// A response.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of HTTP.
    pub status: u16,
    /// Headers by name.
    pub headers: BTreeMap<String, String>,
    /// All data.
    pub body: Vec<u8>,
    /// Headers after the data.
    pub trailers: Option<BTreeMap<String, String>>,
    /// DATA frames.
    pub frames: usize,
}

impl Seen {
    /// gRPC's status.
    pub fn code(&self) -> Option<i32> {
        let trailers = self.trailers.as_ref();
        let status = trailers.and_then(|trailers| trailers.get("grpc-status"));
        status
            .or_else(|| self.headers.get("grpc-status"))
            .and_then(|code| code.parse().ok())
    }

    /// What a client can tell apart: all but the date, the words of errors, which are for people, and whether an answer
    /// without data says so.
    pub fn comparable(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let plain = |map: &BTreeMap<String, String>| {
            let mut map = map.clone();
            map.remove("date");
            if map.get("content-length").is_some_and(|length| length == "0") {
                map.remove("content-length");
            }
            if let Some(message) = map.get_mut("grpc-message") {
                "(a text)".clone_into(message);
            }
            map
        };
        (
            self.status,
            plain(&self.headers),
            self.body.clone(),
            self.trailers.as_ref().map(plain),
        )
    }
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}
