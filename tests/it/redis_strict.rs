//! `strict: true`: denied while Redis is away, and for one window after it has come back without its data.
