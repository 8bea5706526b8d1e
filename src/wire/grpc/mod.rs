//! gRPC over HTTP/2, below tonic: the one method that is asked all the time is answered here, everything else by tonic's
//! services.
//!
//! ```text
//! connection ──stream──> unary   ShouldRateLimit: message, decision, answer
//!                └─────> routed  health, reflection, unknown methods: tonic
//! ```
//!
//! HTTP/2 itself (frames, header compression, flow control, stream states) is the crate `h2`, as below tonic. What is written
//! here is gRPC's mapping onto it (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>) for unary calls, and the
//! life of a connection.

mod framing;
mod keep_alive;
mod routed;
mod serve;
mod unary;

use std::sync::Arc;
use std::time::Duration;

use tonic::service::Routes;

pub use framing::{Reader, framed};
pub use serve::{Broken, serve};

pub(super) use self::framing::PREFIX;

use super::service::Service;

/// The path of the method that is answered here.
pub const SHOULD_RATE_LIMIT: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// What the connections of a thread are served from, and how.
#[derive(Debug)]
pub struct Site {
    /// Answers `ShouldRateLimit`.
    pub service: Service,
    /// Answers everything else.
    pub routes: Routes,
    /// How connections live.
    pub options: ConnectionOptions,
}

/// How connections live.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    /// Age at which a connection is asked to go, give or take a tenth; `None`: never.
    pub age: Option<Duration>,
    /// How long it may take to go then, before it is cut; `None`: for ever.
    pub age_grace: Option<Duration>,
    /// Bytes of a request message.
    pub message_bytes_max: usize,
    /// How long a connection may take to begin with HTTP/2.
    pub preface_within: Duration,
    /// How often a peer is asked for a sign of life, and how long it may take to give one.
    pub keep_alive: (Duration, Duration),
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            age: None,
            age_grace: None,
            message_bytes_max: 4 << 20,
            preface_within: Duration::from_secs(10),
            keep_alive: (Duration::from_secs(60), Duration::from_secs(20)),
        }
    }
}

/// Shared by the tasks of a thread.
pub type SharedSite = Arc<Site>;

/// How long a call may take by its own word; `None` if its caller waits for ever.
type Timeout = Option<Duration>;
