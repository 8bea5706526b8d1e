//! Two deployments as one store: a second Redis takes the limits of one second, as the reference server has it.

use std::sync::Arc;

use super::RedisStore;
use crate::limiter::{Limit, Micros, Reading};
use crate::store::guard::{Asked, Decided, Granted, Part, Remote, StoreError, Wait};

/// The window of limits that the second one takes, in microseconds. The unit that a file wrote is not in a key, so it can't decide.
const SECOND_US: Micros = 1_000_000;
/// Marks the parts of the second one.
const SECOND: u32 = 1 << 16;

/// The Redis of all limits, or of all but those of one second.
#[derive(Debug)]
pub struct Pair {
    /// All other limits, and the count of instances.
    pub main: Arc<RedisStore>,
    /// Limits of one second.
    pub per_second: Option<Arc<RedisStore>>,
}

impl Pair {
    /// The deployment of a part, and what it calls that part.
    fn of(&self, part: Part) -> (&RedisStore, Part) {
        match &self.per_second {
            Some(second) if part.0 & SECOND != 0 => (second, Part(part.0 & !SECOND)),
            _ => (&self.main, part),
        }
    }

    /// Prepares the current thread, the `thread`th, on its runtime.
    pub fn attach(&self, thread: usize) {
        for store in self.all() {
            store.attach(thread);
        }
    }

    /// The deployments.
    pub fn all(&self) -> impl Iterator<Item = &Arc<RedisStore>> {
        std::iter::once(&self.main).chain(&self.per_second)
    }
}

impl Remote for Pair {
    fn only_part(&self) -> Option<Part> {
        match self.per_second {
            None => self.main.only_part(),
            Some(_) => None,
        }
    }

    fn part(&self, key: &str, limit: &Limit) -> Part {
        match &self.per_second {
            Some(second) if limit.window_us() == SECOND_US => Part(second.part(key, limit).0 | SECOND),
            _ => self.main.part(key, limit),
        }
    }

    fn admits(&self, part: Part) -> bool {
        let (store, part) = self.of(part);
        store.admits(part)
    }

    fn emptied_at(&self, part: Part) -> Option<Micros> {
        let (store, part) = self.of(part);
        store.emptied_at(part)
    }

    fn longest_wait(&self, part: Part) -> Micros {
        let (store, part) = self.of(part);
        store.longest_wait(part)
    }

    async fn ask(&self, part: Part, asked: Arc<Asked>, wait: Wait) -> Result<Decided, StoreError> {
        let (store, part) = self.of(part);
        store.ask(part, asked, wait).await
    }

    async fn lease(
        &self,
        part: Part,
        asked: Arc<Asked>,
        parts: u32,
        wait: Wait,
    ) -> Result<Granted, StoreError> {
        let (store, part) = self.of(part);
        store.lease(part, asked, parts, wait).await
    }

    async fn give_back(
        &self,
        part: Part,
        asked: Arc<Asked>,
        which: Vec<usize>,
        at: Micros,
        wait_until: Micros,
    ) -> Option<Vec<Option<Reading>>> {
        let (store, part) = self.of(part);
        store.give_back(part, asked, which, at, wait_until).await
    }

    fn is_connected(&self) -> bool {
        self.all().all(|store| store.is_connected())
    }

    fn is_away(&self) -> bool {
        self.all().any(|store| store.is_away())
    }
}
