//! HTTP: health, metrics, the JSON form of the service, and the rules in force.
//!
//! | listener | paths |
//! |---|---|
//! | main (8080) | `/healthcheck` `/livez` `/readyz` `/json` `/metrics` |
//! | debug (6070, loopback) | `/` `/rlconfig` `/metrics` |
//! | metrics alone, if set | the configured path |

mod handlers;
pub mod health;
mod rlconfig;
pub mod server;

pub use handlers::{Admin, Refresh};
pub use health::Health;
