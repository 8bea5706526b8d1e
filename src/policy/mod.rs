//! Step 3 of a request: which limits apply to it.
//!
//! ```text
//! source/ ──text──> schema/ ──file as written──> compile ──snapshot──> matcher ──rule──> charges
//! ```
//!
//! A file as written ([`schema::PolicyFile`]), the compiled [`Snapshot`] and the running counters are three different types.
//! Everything that a file says wrong becomes a [`Diagnostic`] with its place; a domain whose files are in error keeps the
//! version that was in force before.

mod background;
pub mod compile;
pub mod diagnostic;
pub mod domain;
pub mod loader;
pub mod pattern;
pub mod reload;
pub mod rule;
pub mod schema;
pub mod snapshot;
pub mod source;
mod trie;
mod wildcards;
pub mod yaml;

pub use compile::Defaults;
pub use diagnostic::{Diagnostic, Severity};
pub use domain::{DomainPolicy, Node, Path};
pub use loader::{Loaded, Loader};
pub use rule::{Metadata, Rule, RuleLimit};
pub use snapshot::Snapshot;
