mod caller;
mod closed;
mod exchange;
mod link;
mod open;
mod pacer;
mod shared;
mod thread;
mod watch;

pub use link::{LinkStats, Target};
pub use thread::{Go, Thread, ThreadResult};
