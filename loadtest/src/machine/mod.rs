mod host;
mod process;

pub use host::{Machine, unix_ms};
pub use process::{ProcessUse, Usage, own_cpu};
