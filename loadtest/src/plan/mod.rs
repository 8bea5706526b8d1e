mod arrivals;
mod keys;
mod mix;
mod template;
mod weights;

pub use arrivals::{Arrivals, Pattern};
pub use keys::{Distribution, Keys};
pub use mix::{Kind, Mix};
pub use template::Template;
pub use weights::Weights;
