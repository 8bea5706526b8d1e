//! A server that says OK to everything, on `h2` alone: what the generator itself can send is measured against it.
//!
//! `cargo run --release --example stub -- 127.0.0.1:9090 [THREADS]`

#[path = "../tests/support/stub.rs"]
#[allow(dead_code)]
mod stub;

use std::sync::Arc;
use std::{env, thread};

use stub::{Answer, Stub};

fn main() {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9090".to_owned());
    let threads = env::args()
        .nth(2)
        .and_then(|count| count.parse().ok())
        .unwrap_or(1);
    let stub = Stub::listen(&address, threads, Arc::new(|_| Answer::Ok));
    println!("{} (pid {})", stub.address, std::process::id());
    loop {
        thread::park();
    }
}
