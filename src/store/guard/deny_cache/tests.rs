use super::*;
use crate::limiter::{Algorithm, Limit};

const NOW: Micros = 1_700_000_000_000_000;
const SECOND_US: Micros = 1_000_000;

fn request(at: Micros) -> Batch {
    let mut batch = Batch::default();
    batch.begin(at, Prior::default());
    let counter = batch.keys.add(0, |text| text.push_str("key"));
    let limit = Limit::new(Algorithm::SlidingWindow, 1, 3_600 * SECOND_US, None);
    batch.charges.push(Charge::consume(counter, limit, 1));
    batch
}

/// The store's answer to a request: denied if there is a wait, else admitted.
fn answer(cache: &DenyCache, at: Micros, wait_us: Option<Micros>) {
    let mut batch = request(at);
    let before = cache.before(&batch);
    batch.verdicts.push(Verdict {
        over: wait_us.is_some(),
        wait_us: wait_us.unwrap_or_default(),
        ..Verdict::default()
    });
    batch.decided();
    cache.after(&batch, before, true);
}

fn serves(cache: &DenyCache, at: Micros) -> bool {
    cache.serve(&mut request(at))
}

#[test]
fn one_request_a_second_asks_the_store_again() {
    let cache = DenyCache::default();
    answer(&cache, NOW, Some(60 * SECOND_US));
    let mut from = NOW;
    for _ in 0..3 {
        assert!(serves(&cache, from + LONGEST_US - RENEWAL_US - 1));
        let renewal = from + LONGEST_US - RENEWAL_US;
        assert!(!serves(&cache, renewal), "one is let through");
        assert!(serves(&cache, renewal), "and only one");
        assert!(serves(&cache, from + LONGEST_US - 1));
        answer(&cache, renewal, Some(59 * SECOND_US));
        from = renewal;
    }
    assert!(!serves(&cache, from + LONGEST_US), "a second at most");
}

#[test]
fn a_renewal_without_an_answer_prolongs_nothing() {
    let cache = DenyCache::default();
    answer(&cache, NOW, Some(60 * SECOND_US));
    assert!(!serves(&cache, NOW + LONGEST_US - RENEWAL_US));
    assert!(serves(&cache, NOW + LONGEST_US - 1));
    assert!(!serves(&cache, NOW + LONGEST_US));
}

#[test]
fn what_the_store_admits_is_not_denied_any_more() {
    let cache = DenyCache::default();
    answer(&cache, NOW, Some(60 * SECOND_US));
    let renewal = NOW + LONGEST_US - RENEWAL_US;
    assert!(!serves(&cache, renewal));
    answer(&cache, renewal, None);
    assert!(!serves(&cache, renewal));
}

#[test]
fn a_wait_that_ends_sooner_is_not_renewed() {
    let cache = DenyCache::default();
    answer(&cache, NOW, Some(SECOND_US));
    assert!(serves(&cache, NOW + SECOND_US - 1));
    assert!(serves(&cache, NOW + SECOND_US - 1));
    assert!(!serves(&cache, NOW + SECOND_US));
}
