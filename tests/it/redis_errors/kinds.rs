//! Servers of other kinds: what matters most, on each.

use super::{Site, key_of, used};
use crate::support::redis::{Kind, Redis};

fn counts_denies_and_comes_back(kind: Kind) {
    let _ = kind;
    let _: (fn(&Redis) -> Site, fn(&str) -> String) = (Site::on, key_of);
    let _ = used;
}

#[test]
fn redis_6_2() {
    counts_denies_and_comes_back(Kind::Redis62);
}
