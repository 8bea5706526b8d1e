mod arrivals;
mod keys;
mod template;
mod weights;

pub use arrivals::{Arrivals, Pattern};
pub use keys::{Distribution, Keys};
pub use template::Template;
pub use weights::Weights;
