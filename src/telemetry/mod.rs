//! What can be observed: metrics (each named once, here), logs.
//!
//! Code on the request's way holds handles ([`LimitSeries`], [`RequestSeries`]) and never spells a metric's name.

mod durations;
mod limit_series;
mod logs;
mod recorder;
mod request_series;
mod slowest;
mod store_series;
mod striped;

pub use limit_series::{LimitSeries, Observed};
pub use logs::{LogFormat, init as init_logs};
pub use recorder::{Telemetry, TelemetryOptions};
pub use request_series::{ProcessSeries, RequestSeries, Transport};
pub use store_series::{LayersObserved, NodeObserved, RedisObserved, RedisSeries};
