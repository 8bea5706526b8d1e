//! Free loopback ports for children that must be told their port.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the range that Linux gives to outgoing connections, so that none of those takes a port between the check and its
/// use.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// A port on which nobody listened a moment ago; never the same twice in this process. Two test runs at the same time can
/// still pick the same one: whoever starts a child with it must be ready to try another.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(u32::MAX);
    let start = seed();
    let _ = NEXT.compare_exchange(u32::MAX, start, Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65,536");
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}

/// Somewhere else in the range for each test process.
fn seed() -> u32 {
    let nanos = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    (nanos / 1_000 + std::process::id().wrapping_mul(97)) % COUNT
}
