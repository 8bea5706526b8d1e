//! Whether the process lives, is ready, and is healthy: three questions with different answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::policy::reload::PolicyStatus;
use crate::store::redis::doctor::Examined;

/// What health depends on, besides the state.
#[derive(Clone, Copy, Debug, Default)]
pub struct HealthOptions {
    /// Ready before policies were loaded.
    pub ready_without_policies: bool,
    /// Unhealthy while no domain is in force.
    pub needs_a_domain: bool,
}

/// The state of the process. None of it depends on Redis.
#[derive(Debug)]
pub struct Health {
    options: HealthOptions,
    draining: AtomicBool,
    policies: Mutex<PolicyStatus>,
    examined: Mutex<Option<Examined>>,
    serving: watch::Sender<bool>,
}

impl Health {
    /// A process that starts.
    #[must_use]
    pub fn new(options: HealthOptions) -> Self {
        let (serving, _) = watch::channel(false);
        let health = Self {
            options,
            draining: AtomicBool::new(false),
            policies: Mutex::default(),
            examined: Mutex::default(),
            serving,
        };
        health.update();
        health
    }

    /// Notes how the policies stand.
    pub fn set_policies(&self, status: PolicyStatus) {
        *self.policies.lock().unwrap_or_else(PoisonError::into_inner) = status;
        self.update();
    }

    /// Notes that the process is about to end.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.update();
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// How the policies stand.
    #[must_use]
    pub fn policies(&self) -> PolicyStatus {
        self.policies
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes how the store was found. Neither ready nor healthy depends on it.
    pub fn set_examined(&self, examined: Examined) {
        *self.examined.lock().unwrap_or_else(PoisonError::into_inner) = Some(examined);
    }

    /// How the store was found last; `None` before the first time, and where there is none to examine.
    #[must_use]
    pub fn examined(&self) -> Option<Examined> {
        self.examined
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Every policy file was loaded once, and the process is not about to end.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && (self.options.ready_without_policies || self.policies().clean_once)
    }

    /// The reference server's health: good from the start until the end, unless a setting asks for a domain.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.is_draining() && (!self.options.needs_a_domain || self.policies().domains > 0)
    }

    /// Follows whether gRPC health checks are answered with SERVING.
    #[must_use]
    pub fn serving(&self) -> watch::Receiver<bool> {
        self.serving.subscribe()
    }

    fn update(&self) {
        // Looked up under the channel's lock: of two updates the later one sees what the earlier one did.
        let update = |before: &mut bool| {
            let serving = self.is_ready() && self.is_healthy();
            std::mem::replace(before, serving) != serving
        };
        self.serving.send_if_modified(update);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loaded(domains: usize, errors: &[&str], clean_once: bool) -> PolicyStatus {
        let errors = errors.iter().map(ToString::to_string).collect();
        PolicyStatus {
            domains,
            errors,
            clean_once,
            ..PolicyStatus::default()
        }
    }

    #[test]
    fn ready_is_after_the_first_clean_load_and_until_draining() {
        let health = Health::new(HealthOptions::default());
        assert!(!health.is_ready() && health.is_healthy() && !*health.serving().borrow());
        health.set_policies(loaded(1, &["a.yaml:1:1: bad"], false));
        assert!(!health.is_ready());
        health.set_policies(loaded(1, &[], true));
        assert!(health.is_ready() && *health.serving().borrow());
        health.set_policies(loaded(1, &["a.yaml:1:1: bad"], true));
        assert!(
            health.is_ready() && health.policies().is_degraded(),
            "a later bad file only degrades"
        );
        health.drain();
        assert!(!health.is_ready() && !health.is_healthy() && !*health.serving().borrow());
    }

    #[test]
    fn settings_move_the_two_bounds() {
        let early = Health::new(HealthOptions {
            ready_without_policies: true,
            needs_a_domain: false,
        });
        assert!(early.is_ready() && *early.serving().borrow());
        let strict = Health::new(HealthOptions {
            ready_without_policies: false,
            needs_a_domain: true,
        });
        strict.set_policies(loaded(0, &[], true));
        assert!(strict.is_ready() && !strict.is_healthy() && !*strict.serving().borrow());
        strict.set_policies(loaded(1, &[], true));
        assert!(strict.is_healthy() && *strict.serving().borrow());
    }
}
