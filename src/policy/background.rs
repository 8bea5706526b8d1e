//! Work that takes long, beside threads that must not wait for it.

use std::panic::resume_unwind;
use std::thread::{Builder, scope};

/// How nice the thread is: it gets a tenth of a core that somebody else wants as well.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Does this on a thread that lets others go first, and waits for it. The thread is one of its own because none can take its
/// priority back.
pub fn run<T: Send>(mut work: impl FnMut() -> T + Send) -> T {
    let done = scope(|scope| {
        let thread = Builder::new().name("large load".to_owned());
        match thread.spawn_scoped(scope, || {
            give_way();
            work()
        }) {
            Ok(thread) => Some(thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
            Err(error) => {
                tracing::warn!(%error, "no thread for a large load, it is done beside requests with the same priority");
                None
            }
        }
    });
    done.unwrap_or_else(work)
}

/// Lets other threads go first where there are not enough cores. On Linux this is for the current thread alone; elsewhere it would
/// be for all of the process.
#[cfg(target_os = "linux")]
fn give_way() {
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "a large load keeps its priority");
    }
}

#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(test)]
mod tests {
    /// The 19th field of a thread's line, without the two in front of it that may hold blanks.
    #[cfg(target_os = "linux")]
    fn niceness() -> Option<i32> {
        let line = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
        line.rsplit_once(')')?.1.split_whitespace().nth(16)?.parse().ok()
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_alone_gives_way() {
        let before = niceness();
        let others = before.map(|nice| (nice + super::NICE).min(19));
        assert!(before.is_some());
        assert_eq!(super::run(niceness), others);
        assert_eq!(niceness(), before);
    }
}
