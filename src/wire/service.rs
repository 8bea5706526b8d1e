//! `envoy.service.ratelimit.v3.RateLimitService`: a message in, a message out, whoever carries them.

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use tonic::{Request, Response, Status};

use super::codec::{self, Lenient as _};
use super::grpc::framed;
use super::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use super::{convert, deadline, read, write};
use crate::decision::{Decider, NotReady};
use crate::descriptor::{Bounds, Invalid};
use crate::telemetry::Transport;

/// The service behind both doors, gRPC and `/json`.
#[derive(Clone, Debug)]
pub struct Service {
    decider: Arc<Decider>,
    bounds: Bounds,
}

/// Why there is no decision. Over-limit is not among them: that is a decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request itself can't be decided.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The policies that it needs are not there.
    #[error(transparent)]
    NotReady(#[from] NotReady),
}

impl Service {
    /// A service that decides by `decider` what is within `bounds`.
    #[must_use]
    pub fn new(decider: Arc<Decider>, bounds: Bounds) -> Self {
        Self { decider, bounds }
    }

    /// Answers one message. `budget` is how long the caller can wait.
    ///
    /// # Errors
    /// A request outside the bounds, and policies that are not there.
    pub async fn answer(
        &self,
        message: &RateLimitRequest,
        transport: Transport,
        budget: Option<Duration>,
    ) -> Result<RateLimitResponse, Error> {
        let request = convert::request(message, &self.bounds)
            .inspect_err(|_| self.decider.telemetry().requests.invalid(transport))?;
        Ok(convert::response(
            self.decider.decide(&request, transport, budget).await?,
        ))
    }

    /// Answers one message as bytes; the answer has gRPC's prefix. `budget` is how long the caller can wait.
    ///
    /// # Errors
    /// What is no message, and whatever [`Service::answer`] does not answer.
    pub async fn answer_bytes(&self, message: &[u8], budget: Option<Duration>) -> Result<Bytes, Status> {
        // Not by `if let`: what it takes apart would be in the future twice, and that has to fit into what an allocator has at hand
        // (a kilobyte).
        let Some(request) = read::request(message, &self.bounds) else {
            // Seldom, and too large a part of a future that all others pay for.
            return Box::pin(self.answer_any(message, budget)).await;
        };
        let answer = self.decider.decide(&request, Transport::Grpc, budget).await;
        write::answer(answer.map_err(|why| Error::from(why).into_status())?)
    }

    async fn answer_any(&self, message: &[u8], budget: Option<Duration>) -> Result<Bytes, Status> {
        let message = RateLimitRequest::read(message).map_err(|error| codec::unreadable(&error))?;
        let response = self.answer(&message, Transport::Grpc, budget).await;
        framed(&response.map_err(Error::into_status)?)
    }
}

impl Error {
    /// The one place where errors become gRPC's.
    fn into_status(self) -> Status {
        match self {
            error @ Self::Invalid(_) => Status::invalid_argument(error.to_string()),
            error @ Self::NotReady(_) => Status::unavailable(error.to_string()),
        }
    }
}

/// The service as tonic wants it. The program itself answers below tonic (`grpc`); the tests compare the two.
#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let budget = deadline::timeout(request.metadata().as_ref()).map(deadline::budget_of);
        let response = self.answer(request.get_ref(), Transport::Grpc, budget).await;
        response.map(Response::new).map_err(Error::into_status)
    }
}
