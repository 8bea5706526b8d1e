//! Metrics of the shared store.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

const WITHOUT: &str = "ratekeeper_decisions_without_store_total";
const CALLS: &str = "ratekeeper_redis_calls_total";
const CHARGES: &str = "ratekeeper_redis_charges_total";
const RELOADS: &str = "ratekeeper_redis_script_reloads_total";
const CONNECTS: &str = "ratekeeper_redis_connects_total";
const DISCONNECTS: &str = "ratekeeper_redis_disconnects_total";
const CONNECTED: &str = "ratekeeper_redis_connections";
const OPEN: &str = "ratekeeper_redis_breaker_open";
const OPENED: &str = "ratekeeper_redis_breaker_opened_total";
const INSTANCES: &str = "ratekeeper_instances";

pub(super) fn describe() {
    describe_counter!(
        WITHOUT,
        Unit::Count,
        "Decisions made without the store, by reason"
    );
    describe_counter!(CALLS, Unit::Count, "Script calls sent");
    describe_counter!(CHARGES, Unit::Count, "Charges in those calls");
    describe_counter!(
        RELOADS,
        Unit::Count,
        "Calls sent again because the server had lost the script"
    );
    describe_counter!(CONNECTS, Unit::Count, "Connections made");
    describe_counter!(
        DISCONNECTS,
        Unit::Count,
        "Connections lost, and attempts to connect that failed"
    );
    describe_gauge!(CONNECTED, Unit::Count, "Connections open");
    describe_gauge!(
        OPEN,
        Unit::Count,
        "1 while the breaker keeps requests from the store"
    );
    describe_counter!(OPENED, Unit::Count, "How often the breaker opened");
    describe_gauge!(INSTANCES, Unit::Count, "Instances that share the limits");
}

/// What the shared store did since the start.
#[derive(Clone, Debug, Default)]
pub struct RedisObserved {
    /// Decisions made without it, by reason.
    pub without: Vec<(&'static str, u64)>,
    /// Script calls sent.
    pub calls: u64,
    /// Charges in them.
    pub charges: u64,
    /// Calls sent again because the server had lost the script.
    pub reloads: u64,
    /// Connections made.
    pub connects: u64,
    /// Connections lost or not made.
    pub disconnects: u64,
    /// Connections open.
    pub connected: u64,
    /// The breaker is open.
    pub open: bool,
    /// How often it opened.
    pub opened: u64,
    /// Instances that share the limits, as far as this one knows.
    pub instances: u32,
}

/// Metrics of the shared store. They are there only when it is.
#[derive(Debug)]
pub struct RedisSeries(());

impl RedisSeries {
    pub(super) fn new() -> Self {
        describe();
        Self(())
    }

    /// Shows what the store did. To be called inside the registry.
    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    pub(super) fn show(&self, it: &RedisObserved) {
        for (reason, count) in &it.without {
            counter!(WITHOUT, "reason" => *reason).absolute(*count);
        }
        counter!(CALLS).absolute(it.calls);
        counter!(CHARGES).absolute(it.charges);
        counter!(RELOADS).absolute(it.reloads);
        counter!(CONNECTS).absolute(it.connects);
        counter!(DISCONNECTS).absolute(it.disconnects);
        gauge!(CONNECTED).set(it.connected as f64);
        gauge!(OPEN).set(if it.open { 1.0 } else { 0.0 });
        counter!(OPENED).absolute(it.opened);
        gauge!(INSTANCES).set(f64::from(it.instances));
    }
}
