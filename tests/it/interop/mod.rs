//! The service below tonic speaks gRPC as tonic does: the same cases against both, from clients of several makes.

mod clients;
mod exchange;
mod frames;
mod life;
mod server;
mod waiting;

use prost::Message as _;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitRequest;

/// Whose HTTP/2 and gRPC it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The program's own.
    Below,
    /// tonic's server with the generated service: what the other is held against.
    Tonic,
}

impl Way {
    /// The status of a call whose time is over, if the server notices it first.
    fn timed_out(self) -> &'static str {
        match self {
            Self::Below => "DEADLINE_EXCEEDED",
            Self::Tonic => "CANCELLED",
        }
    }
}

const BOTH: [Way; 2] = [Way::Tonic, Way::Below];

/// A request for one user.
fn request(user: &str) -> RateLimitRequest {
    of_users(&[user])
}

/// A request with a descriptor for each user.
fn of_users(users: &[&str]) -> RateLimitRequest {
    let descriptor = |user: &&str| RateLimitDescriptor {
        entries: vec![Entry {
            key: "user".to_owned(),
            value: (*user).to_owned(),
        }],
        ..RateLimitDescriptor::default()
    };
    RateLimitRequest {
        domain: "interop".to_owned(),
        descriptors: users.iter().map(descriptor).collect(),
        hits_addend: 0,
    }
}

/// A message behind gRPC's prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A request for one user, framed.
fn asked(user: &str) -> Vec<u8> {
    framed(&request(user).encode_to_vec())
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}
