//! Where policies come from. A source reads all files; [`super::Loader`] makes a snapshot of them.

pub mod file;
pub mod watch;
