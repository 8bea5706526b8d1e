mod history;
mod limits;
mod report;
mod window;

pub use history::{Admission, History};
pub use limits::{KeyLimit, Limits};
pub use report::{AuditReport, KeyReport, audit};
pub use window::{Fullest, fullest_window};
