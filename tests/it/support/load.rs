//! A steady load: threads that send one request after the other until they are told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::audit::Admission;
use super::http::{Connection, Response};

/// The answers, in the order of each thread.
#[derive(Debug)]
pub struct Sample {
    pub sent: Instant,
    pub received: Instant,
    /// `Err` is a request that got no answer at all.
    pub response: Result<Response, String>,
}

impl Sample {
    /// The status of the answer; 0 if there was none.
    pub fn status(&self) -> u16 {
        self.response.as_ref().map_or(0, |response| response.status)
    }

    /// The two moments of a request, if it was let through.
    pub fn admission(&self) -> Option<Admission> {
        (self.status() == 200).then_some(Admission {
            sent: self.sent,
            received: self.received,
        })
    }
}

/// Running threads; stopped when dropped.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    /// Starts `threads` threads with a connection each; each pauses between two requests.
    pub fn start(
        address: SocketAddr,
        threads: usize,
        pause: Duration,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let headers: Vec<(String, String)> = headers
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let run = |_| {
            let (stop, path, headers) = (Arc::clone(&stop), path.to_owned(), headers.clone());
            std::thread::spawn(move || {
                let headers: Vec<(&str, &str)> =
                    headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
                send_until(&stop, address, pause, &path, &headers)
            })
        };
        let threads = (0..threads).map(run).collect();
        Self { stop, threads }
    }

    /// Ends the load and gives all answers.
    pub fn finish(mut self) -> Vec<Sample> {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut self.threads);
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("a thread of the load panicked"))
            .collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn send_until(
    stop: &AtomicBool,
    address: SocketAddr,
    pause: Duration,
    path: &str,
    headers: &[(&str, &str)],
) -> Vec<Sample> {
    let mut samples = Vec::new();
    let mut connection = None;
    while !stop.load(Ordering::Relaxed) {
        let sent = Instant::now();
        let opened = connection.take().map_or_else(|| Connection::open(address), Ok);
        let response = opened.and_then(|mut open| {
            let response = open.get(path, headers)?;
            connection = Some(open);
            Ok(response)
        });
        let response = response.map_err(|error| error.to_string());
        samples.push(Sample {
            sent,
            received: Instant::now(),
            response,
        });
        std::thread::sleep(pause);
    }
    samples
}
