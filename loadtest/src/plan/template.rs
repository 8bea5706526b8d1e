//! The request with a place for the key.

use bytes::Bytes;

use crate::wire::{Descriptor, Shape};

/// Digits of the largest key.
const DIGITS_MAX: usize = 10;

/// Ready bytes for keys of every length.
#[derive(Debug, Clone)]
pub struct Template {
    by_digits: Vec<Shape>,
}

impl Template {
    /// All lengths are laid out at once: 10 small buffers.
    pub fn new(domain: &str, descriptors: &[Descriptor]) -> Self {
        let by_digits = (1..=DIGITS_MAX).map(|digits| Shape::new(domain, descriptors, digits));
        Self {
            by_digits: by_digits.collect(),
        }
    }

    /// The framed gRPC message that asks about `key`.
    pub fn message(&self, key: u32, hits: Option<u32>) -> Bytes {
        let mut buffer = [0; DIGITS_MAX];
        let digits = decimal(key, &mut buffer);
        self.by_digits[digits.len() - 1].message(digits, hits)
    }
}

/// `value` in decimal, in the end of `buffer`; at least one digit.
fn decimal(mut value: u32, buffer: &mut [u8; DIGITS_MAX]) -> &[u8] {
    let mut start = DIGITS_MAX;
    loop {
        start -= 1;
        buffer[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            return &buffer[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        for value in [0, 9, 10, 12_345, u32::MAX] {
            assert_eq!(decimal(value, &mut [0; DIGITS_MAX]), value.to_string().as_bytes());
        }
    }
}
