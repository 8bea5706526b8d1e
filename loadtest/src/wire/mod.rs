//! Names and numbers are Envoy's: `envoy/service/ratelimit/v3/rls.proto`.

mod request;
mod response;
mod status;
mod varint;

pub use request::{Descriptor, Shape, Text};
pub use response::{Code, Malformed, overall_code};
pub use status::status_name;

/// The path of the one method.
pub const PATH: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";

/// gRPC's prefix of a message: a compression flag and the length in 4 bytes, big-endian.
pub const PREFIX_BYTES: usize = 5;
