//! Step 2 of a request: what it is counted by, as validated, bounded value types that borrow from the message.

mod bounds;
mod key;
mod request;
mod unit;

pub use bounds::{Bounds, Invalid, KEY_BYTES_MAX};
pub use key::{ENCODED_BYTES_MAX, KeyEncoder, KeyPart, KeySuffix};
pub use request::{Descriptor, Entry, Hits, LimitOverride, Request};
pub use unit::Unit;
