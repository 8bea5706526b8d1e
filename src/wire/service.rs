//! `envoy.service.ratelimit.v3.RateLimitService` by tonic.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitService;
use super::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use super::{convert, deadline};
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
}

#[tonic::async_trait]
impl RateLimitService for Service {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let budget = deadline::budget(request.metadata());
        match self.answer(request.get_ref(), Transport::Grpc, budget).await {
            Ok(response) => Ok(Response::new(response)),
            Err(error @ Error::Invalid(_)) => Err(Status::invalid_argument(error.to_string())),
            Err(error @ Error::NotReady(_)) => Err(Status::unavailable(error.to_string())),
        }
    }
}
