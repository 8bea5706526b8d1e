//! `rk-compare`: the same scenarios against several servers in turn, and what a request costs along one parameter.
//!
//! ```text
//! servers.toml ──> Server ─┐
//! scenarios.toml > Scenario ┼─> lap: start, load, measure, end ──> Sample ──> figures ──> CSV, HTML, Markdown
//!                           └── order: A B C A B C …
//! ```
//!
//! Every server is a child process of its own, started anew for each lap and ended by its process id; so is each Redis
//! and each `rk-load`. All of them listen on the loopback interface only.

mod child;
/// What a request costs along one parameter.
pub mod curves;
mod figures;
mod lap;
mod options;
/// Tables and plots.
pub mod out;
mod sample;
mod server;
mod session;

pub use child::{Child, Place, Ports};
pub use figures::{Figures, METRICS, Metric, Spread};
pub use lap::{Lap, Timing};
pub use options::{Command, Common, CurvesArgs, Options, ServersArgs};
pub use sample::{Sample, spool};
pub use server::{Server, Values};
pub use session::{Outcome, compare};
