//! Large files are loaded beside requests.

use std::fmt::Write as _;
use std::time::Duration;

use super::{SLOW_POLL, limit_in_force, policy, soon};
use crate::support::{self, service::Service};

#[test]
fn a_large_file_is_loaded_by_a_thread_that_lets_others_go_first() {
    let dir = tempfile::tempdir().unwrap();
    support::write(&dir.path().join("d.yaml"), &policy("d", 1));
    let service = Service::start(dir.path(), &[SLOW_POLL]);
    let usual = service.niceness_of("policies").expect("it waits for changes");
    let large = |requests| {
        let mut text = policy("d", requests);
        for number in 0..20_000 {
            writeln!(
                text,
                "  - {{key: other, value: number-{number}, rate_limit: {{unit: day, requests_per_unit: 7}}}}"
            )
            .unwrap();
        }
        text
    };
    for requests in 2..4_u32 {
        support::replace(&dir.path().join("d.yaml"), &large(requests));
        let mut seen = None;
        support::eventually("the large file is in force", Duration::from_secs(60), || {
            seen = service.niceness_of("large load").or(seen);
            limit_in_force(&service, "d") == Some(requests.into())
        });
        assert_eq!(seen, Some((usual + 10).min(19)));
    }
    // What is dropped is large.
    support::replace(&dir.path().join("d.yaml"), &policy("d", 4));
    support::eventually("the small file is in force", Duration::from_secs(60), || {
        limit_in_force(&service, "d") == Some(4)
    });
    support::replace(&dir.path().join("d.yaml"), &policy("d", 5));
    soon(&service, "d", Some(5));
    assert_eq!(service.niceness_of("policies"), Some(usual));
}
