//! Requests as tests write them, to a [`Deciding`] and what its metrics say afterwards.

use ratekeeper::decision::{Answer, HeaderNames, NotReady, Options};
use ratekeeper::descriptor::{Bounds, Entry, LimitOverride, Request};
use ratekeeper::telemetry::Transport;

use crate::deciding::{self, Deciding};

/// A descriptor.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub entries: Vec<(String, String)>,
    pub hits: Option<u64>,
    pub refund: bool,
    pub limit: Option<LimitOverride>,
}

/// A descriptor of these entries, `key=value` each.
pub fn descriptor(entries: &[&str]) -> Ask {
    let entry = |text: &&str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        (key.to_owned(), value.to_owned())
    };
    Ask {
        entries: entries.iter().map(entry).collect(),
        ..Ask::default()
    }
}

impl Ask {
    /// The same with a number of hits of its own.
    pub fn hits(mut self, hits: u64) -> Self {
        self.hits = Some(hits);
        self
    }

    /// The same giving its hits back.
    pub fn refund(mut self, hits: u64) -> Self {
        self.refund = true;
        self.hits(hits)
    }

    /// The same with a limit of its own.
    pub fn limit(mut self, limit: LimitOverride) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// Asks in a domain; `hits` is the request's own `hits_addend`.
pub fn ask(service: &Deciding, domain: &str, hits: u32, asks: &[Ask]) -> Result<Answer, NotReady> {
    let bounds = Bounds::default();
    let mut request = Request::begin(domain, hits, asks.len(), &bounds).unwrap();
    for ask in asks {
        let entries = ask.entries.iter().map(|(key, value)| Entry { key, value });
        request
            .push(entries, ask.hits, ask.refund, ask.limit, &bounds)
            .unwrap();
    }
    service.decide(&request, Transport::Grpc)
}

/// Options with the limit headers `limit`, `left` and `reset`.
pub fn with_headers() -> Options {
    let names = HeaderNames {
        limit: "limit".into(),
        remaining: "left".into(),
        reset: "reset".into(),
    };
    Options {
        limit_headers: Some(names),
        ..deciding::options()
    }
}

/// The value of a metric, 0 if it is not there; `labels` as the page writes them.
pub fn metric(service: &Deciding, name: &str, labels: &str) -> u64 {
    let page = service.telemetry.render();
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(labels)?.strip_prefix(' '));
    values.next().map_or(0, |value| value.parse().unwrap())
}

/// Lets time pass.
pub fn advance(service: &Deciding, us: u64) {
    service.clock.set(service.clock.now_us() + us);
}
