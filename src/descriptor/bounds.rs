//! What a request may hold, and what is said when it holds more.

use super::Entry;

/// Bytes of a key, unless a setting says otherwise.
pub const KEY_BYTES_MAX: usize = 1_024;

/// Bounds of a request; each is inclusive.
#[derive(Clone, Debug)]
pub struct Bounds {
    /// Descriptors a request.
    pub descriptors_max: usize,
    /// Entries a descriptor.
    pub entries_max: usize,
    /// Bytes a key, and the domain.
    pub key_bytes_max: usize,
    /// Bytes a value.
    pub value_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            descriptors_max: 1_000,
            entries_max: 100,
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: 65_536,
        }
    }
}

/// A request that can't be decided, with the path of the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The domain is empty.
    #[error("domain: must not be empty")]
    EmptyDomain,
    /// The domain is too long.
    #[error("domain: {bytes} bytes, at most {max} are allowed")]
    LongDomain {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// There is nothing to decide.
    #[error("descriptors: must not be empty")]
    NoDescriptors,
    /// Too many descriptors.
    #[error("descriptors: {count} descriptors, at most {max} are allowed")]
    ManyDescriptors {
        /// Their number.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// A descriptor without entries.
    #[error("descriptors[{descriptor}].entries: must not be empty")]
    NoEntries {
        /// The descriptor's place.
        descriptor: usize,
    },
    /// A descriptor with too many entries.
    #[error("descriptors[{descriptor}].entries: {count} entries, at most {max} are allowed")]
    ManyEntries {
        /// The descriptor's place.
        descriptor: usize,
        /// Their number.
        count: usize,
        /// The bound.
        max: usize,
    },
    /// An entry with an empty key.
    #[error("descriptors[{descriptor}].entries[{entry}].key: must not be empty")]
    EmptyKey {
        /// The descriptor's place.
        descriptor: usize,
        /// The entry's place.
        entry: usize,
    },
    /// An entry whose key or value is too long.
    #[error("descriptors[{descriptor}].entries[{entry}].{field}: {bytes} bytes, at most {max} are allowed")]
    LongField {
        /// The descriptor's place.
        descriptor: usize,
        /// The entry's place.
        entry: usize,
        /// `key` or `value`.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
}

impl Bounds {
    pub(super) fn check_domain(&self, domain: &str) -> Result<(), Invalid> {
        match domain.len() {
            0 => Err(Invalid::EmptyDomain),
            bytes if bytes > self.key_bytes_max => Err(Invalid::LongDomain {
                bytes,
                max: self.key_bytes_max,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_descriptors(&self, count: usize) -> Result<(), Invalid> {
        match count {
            0 => Err(Invalid::NoDescriptors),
            _ if count > self.descriptors_max => Err(Invalid::ManyDescriptors {
                count,
                max: self.descriptors_max,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_entries(&self, descriptor: usize, count: usize) -> Result<(), Invalid> {
        match count {
            0 => Err(Invalid::NoEntries { descriptor }),
            _ if count > self.entries_max => Err(Invalid::ManyEntries {
                descriptor,
                count,
                max: self.entries_max,
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn check_entry(&self, descriptor: usize, entry: usize, it: Entry<'_>) -> Result<(), Invalid> {
        if it.key.is_empty() {
            return Err(Invalid::EmptyKey { descriptor, entry });
        }
        let long = |field, bytes, max| Invalid::LongField {
            descriptor,
            entry,
            field,
            bytes,
            max,
        };
        if it.key.len() > self.key_bytes_max {
            return Err(long("key", it.key.len(), self.key_bytes_max));
        }
        if it.value.len() > self.value_bytes_max {
            return Err(long("value", it.value.len(), self.value_bytes_max));
        }
        Ok(())
    }
}
