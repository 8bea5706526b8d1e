mod args;
mod plan;
mod values;

pub use args::Args;
pub use plan::{AuditPlan, Load, Plan};
pub use values::{descriptor, duration, rate};
