//! All integration tests, in one binary: it links once.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]

mod known_bugs_limiter;
mod limiter_histories;
mod limiter_oracle;
mod limiter_request;
mod limiter_waits;
mod settings;
