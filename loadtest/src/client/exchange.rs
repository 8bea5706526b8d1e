//! One request and its answer on a connection.

use std::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, TE};
use http::{HeaderMap, Method, Request, StatusCode, Uri, Version};

use crate::measure::Outcome;
use crate::wire::{self, Code};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// An answer longer than this is malformed.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Why there is no outcome yet: the server has not looked at the request, so it may be sent again.
#[derive(Debug, Clone, Copy)]
pub struct NotProcessed;

/// Puts the request into the connection's send buffer; an error means that the connection takes none any more.
pub fn send(
    sender: &mut SendRequest<Bytes>,
    uri: Uri,
    grpc_timeout: Option<&HeaderValue>,
    body: Bytes,
) -> Result<ResponseFuture, h2::Error> {
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(timeout) = grpc_timeout {
        headers.insert(GRPC_TIMEOUT, timeout.clone());
    }
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = headers;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(body, true)?;
    Ok(response)
}

/// Waits for the answer and classifies it.
pub async fn receive(response: ResponseFuture) -> Result<Outcome, NotProcessed> {
    match try_receive(response).await {
        Ok(outcome) => Ok(outcome),
        Err(error) if error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM) => Err(NotProcessed),
        Err(error) if error.is_go_away() && error.is_remote() => Err(NotProcessed),
        Err(error) if error.is_reset() => Ok(Outcome::STREAM_RESET),
        Err(_) => Ok(Outcome::CONNECTION_LOST),
    }
}

async fn try_receive(response: ResponseFuture) -> Result<Outcome, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    if head.status != StatusCode::OK {
        return Ok(Outcome::HTTP_STATUS);
    }
    if let Some(outcome) = failure(&head.headers) {
        return Ok(outcome); // no message, the status stands in the only headers
    }
    let Some(message) = read(&mut body).await? else {
        return Ok(Outcome::MALFORMED);
    };
    let trailers = poll_fn(|context| body.poll_trailers(context)).await?;
    let Some(trailers) = trailers.filter(|trailers| trailers.contains_key(GRPC_STATUS)) else {
        return Ok(Outcome::NO_STATUS);
    };
    Ok(
        failure(&trailers).unwrap_or_else(|| match wire::overall_code(&message) {
            Ok(Code::Ok) => Outcome::Ok,
            Ok(Code::OverLimit) => Outcome::OverLimit,
            Ok(Code::Unknown) => Outcome::NO_CODE,
            Err(wire::Malformed) => Outcome::MALFORMED,
        }),
    )
}

/// The whole body, nearly always one frame; `None` if it is too long.
async fn read(body: &mut RecvStream) -> Result<Option<Bytes>, h2::Error> {
    let Some(first) = poll_fn(|context| body.poll_data(context)).await.transpose()? else {
        return Ok(Some(Bytes::new()));
    };
    let mut whole = BytesMut::new();
    while let Some(next) = poll_fn(|context| body.poll_data(context)).await.transpose()? {
        if whole.is_empty() {
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&next);
        if whole.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(if whole.is_empty() { first } else { whole.freeze() }))
}

/// The outcome of a `grpc-status` other than 0; `None` if it is 0 or there is none.
fn failure(headers: &HeaderMap) -> Option<Outcome> {
    let status = headers.get(GRPC_STATUS)?.as_bytes();
    match status {
        b"0" => None,
        other => Some(Outcome::Error(
            wire::status_name(other).unwrap_or("unknown grpc-status"),
        )),
    }
}
