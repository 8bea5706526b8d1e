mod counts;
mod latency;
mod outcome;
mod recorder;
mod series;

pub use counts::Counts;
pub use latency::{Latencies, Percentiles};
pub use outcome::Outcome;
pub use recorder::{Recorder, Tally};
pub use series::{Row, Second, Series};
