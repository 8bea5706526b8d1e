//! `ShouldRateLimit`: one message in, one out.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::metadata::MetadataValue;

use super::super::codec::{self, Lenient as _};
use super::super::deadline;
use super::super::pb::envoy::service::ratelimit::v3::RateLimitRequest;
use super::framing::Reader;
use super::{SharedSite, Timeout};

static GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The stream's other half is gone: nobody reads an answer.
#[derive(Debug)]
pub(super) struct Gone;

/// What becomes of a call: the framed message, or why there is none.
pub(super) type Outcome = Result<Result<Bytes, Status>, Gone>;

/// Says from a call's headers whether it is one, and how long it may take.
///
/// # Errors
/// The response to what is no call.
pub(super) fn admit<B>(request: &Request<B>) -> Result<Timeout, Response<()>> {
    let refused = |status| {
        let mut response = Response::new(());
        *response.status_mut() = status;
        response
    };
    if request.method() != Method::POST {
        return Err(refused(StatusCode::METHOD_NOT_ALLOWED));
    }
    let headers = request.headers();
    let is_grpc = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| is_grpc(value.as_bytes()));
    if !is_grpc {
        return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    if let Some(encoding) = headers.get(&GRPC_ENCODING)
        && encoding != "identity"
    {
        let name = String::from_utf8_lossy(encoding.as_bytes());
        let mut status = Status::unimplemented(format!("compression {name:?} is not supported"));
        status
            .metadata_mut()
            .insert("grpc-accept-encoding", MetadataValue::from_static("identity"));
        return Err(status.into_http());
    }
    Ok(deadline::timeout(headers))
}

/// `application/grpc`, alone or followed by a format or parameters.
fn is_grpc(content_type: &[u8]) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some((name, rest)) = content_type.split_at_checked(NAME.len()) else {
        return false;
    };
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Reads the message, has it decided, and frames the answer.
pub(super) async fn call(site: SharedSite, timeout: Timeout, mut body: RecvStream) -> Outcome {
    let message = match read(&mut body, site.options.message_bytes_max).await? {
        Ok(message) => message,
        Err(status) => return Ok(Err(status)),
    };
    let budget = timeout.map(deadline::budget_of);
    Ok(site.service.answer_bytes(&message, budget).await)
}

/// Reads to the end of the stream: the one message of the call. Further ones are checked and have no effect, as in tonic.
async fn read(body: &mut RecvStream, bytes_max: usize) -> Result<Result<Bytes, Status>, Gone> {
    let mut reader = Reader::new(bytes_max);
    let mut first = None;
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|_| Gone)?;
        let ended = body.is_end_stream();
        if !ended {
            // More is to come, and the sender may need room for it. An error is a stream that has ended.
            let _ = body.flow_control().release_capacity(chunk.len());
        }
        reader.push(chunk);
        loop {
            match reader.message() {
                Ok(None) => break,
                Ok(Some(message)) if first.is_none() => first = Some(message),
                Ok(Some(message)) => {
                    if let Err(error) = RateLimitRequest::read(&message) {
                        return Ok(Err(codec::unreadable(&error)));
                    }
                }
                Err(status) => return Ok(Err(status)),
            }
        }
        if ended {
            break;
        }
    }
    let whole = reader.finish();
    Ok(whole.and_then(|()| first.ok_or_else(|| Status::internal("missing request message"))))
}

/// Sees a call through that has to wait: for the rest of its message, or for a decision. It ends when the caller cancels it or
/// its time is over.
pub(super) async fn wait(
    mut call: Pin<Box<Option<impl Future<Output = Outcome>>>>,
    timeout: Timeout,
    mut respond: SendResponse<Bytes>,
) {
    let outcome = poll_fn(|cx| {
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        match call.as_mut().as_pin_mut() {
            Some(call) => call.poll(cx),
            None => Poll::Ready(Err(Gone)),
        }
    });
    let outcome = match timeout {
        None => outcome.await,
        Some(timeout) => tokio::time::timeout(timeout, outcome)
            .await
            .unwrap_or_else(|_| Ok(Err(Status::deadline_exceeded("the call's time is over")))),
    };
    reply(outcome, respond);
}

/// Answers what is no call.
pub(super) fn refuse(refusal: Response<()>, mut respond: SendResponse<Bytes>) {
    if let Err(error) = respond.send_response(refusal, true) {
        tracing::debug!(%error, "refusal not sent");
    }
}

/// Sends the answer. h2 keeps what the caller's window has no room for, until it has or the stream ends.
pub(super) fn reply(outcome: Outcome, mut respond: SendResponse<Bytes>) {
    let sent = match outcome {
        Err(Gone) => return,
        Ok(Err(status)) => respond.send_response(status.into_http(), true).map(drop),
        Ok(Ok(message)) => send(message, &mut respond),
    };
    if let Err(error) = sent {
        // The caller has gone away meanwhile.
        tracing::debug!(%error, "answer not sent");
    }
}

fn send(message: Bytes, respond: &mut SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS.clone(), HeaderValue::from_static("0"));
    let mut stream = respond.send_response(head, false)?;
    stream.send_data(message, false)?;
    stream.send_trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::is_grpc;

    #[test]
    fn content_types() {
        for (text, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("Application/GRPC", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(text.as_bytes()), expected, "{text:?}");
        }
    }
}
