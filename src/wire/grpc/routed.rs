//! Calls that tonic answers: health, reflection, and what nobody knows.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body, Frame};
use prost::bytes::Bytes;
use tonic::Status;
use tonic::codegen::Service as _;
use tonic::service::Routes;

use super::super::deadline;

/// A request's body as tonic takes it.
#[derive(Debug)]
struct Incoming(RecvStream);

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match ready!(self.0.poll_data(cx)) {
            Some(Ok(chunk)) => {
                // An error is a stream that has ended.
                let _ = self.0.flow_control().release_capacity(chunk.len());
                Poll::Ready(Some(Ok(Frame::data(chunk))))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let trailers = ready!(self.0.poll_trailers(cx)).transpose();
                Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Has tonic answer a call; ends when the caller cancels it.
pub(super) async fn call(mut routes: Routes, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let timeout = deadline::timeout(request.headers());
    let request = request.map(|body| tonic::body::Body::new(Incoming(body)));
    let response = {
        let mut answering = pin!(routes.call(request));
        let answer = poll_fn(|cx| {
            if respond.poll_reset(cx).is_ready() {
                return Poll::Ready(None);
            }
            answering.as_mut().poll(cx).map(Some)
        });
        match timeout {
            None => answer.await,
            Some(timeout) => tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
                Some(Ok(
                    Status::deadline_exceeded("the call's time is over").into_http()
                ))
            }),
        }
    };
    let Some(Ok(response)) = response else {
        return;
    };
    if let Err(error) = send(response, respond).await {
        // The caller has gone away meanwhile.
        tracing::debug!(%error, "answer not sent");
    }
}

async fn send(
    response: Response<tonic::body::Body>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, body) = response.into_parts();
    let empty = body.is_end_stream();
    let mut stream = respond.send_response(Response::from_parts(head, ()), empty)?;
    if empty {
        return Ok(());
    }
    let mut body = pin!(body);
    loop {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(reason) = stream.poll_reset(cx) {
                return Poll::Ready(Err(reason.map_or_else(|error| error, h2::Error::from)));
            }
            body.as_mut().poll_frame(cx).map(Ok)
        });
        match frame.await? {
            None => return stream.send_data(Bytes::new(), true),
            Some(Err(error)) => {
                tracing::warn!(%error, "answer broke off");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    room(&mut stream).await?;
                    stream.send_data(data, false)?;
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return stream.send_trailers(trailers);
                    }
                }
            },
        }
    }
}

/// Waits until the caller's window has room, so that a caller that does not read stops the answers at their source.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => capacity?,
            None => return Err(Reason::CANCEL.into()),
        };
    }
    Ok(())
}
