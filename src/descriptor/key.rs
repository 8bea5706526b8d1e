//! Counter keys: `<prefix>{<domain>|<entry>|…}:<algorithm>:<window in s>`.
//!
//! Every part is percent-escaped, so that no client's value can imitate another key. An entry is `key=value`, a pattern that
//! many values share is `key~pattern`. The braces are Redis Cluster's slot tag. What would be longer than
//! [`ENCODED_BYTES_MAX`] bytes stands under the first 128 bits of the SHA-256 of the inside of its braces.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The longest key, in bytes.
pub const ENCODED_BYTES_MAX: usize = 256;

/// One entry of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// An entry of the request, with its own value.
    Own {
        /// The entry's key.
        key: &'a str,
        /// The entry's value.
        value: &'a str,
    },
    /// A pattern that all values matching it share.
    Shared {
        /// The entry's key.
        key: &'a str,
        /// The rule's value, or its key if that is the pattern.
        pattern: &'a str,
    },
}

/// Writes keys one after the other into one buffer.
#[derive(Clone, Debug)]
pub struct KeyEncoder {
    prefix: String,
}

impl KeyEncoder {
    /// An encoder whose keys all begin with `prefix`.
    ///
    /// # Errors
    /// The prefix, if it holds a brace: it would move the slot tag.
    pub fn new(prefix: &str) -> Result<Self, String> {
        if prefix.contains(['{', '}']) {
            return Err(format!("key prefix {prefix:?} must not hold braces"));
        }
        Ok(Self {
            prefix: prefix.to_owned(),
        })
    }

    /// Appends a key to `out`; `suffix` names the algorithm and the window.
    pub fn encode<'a>(
        &self,
        out: &mut String,
        domain: &str,
        parts: impl IntoIterator<Item = KeyPart<'a>>,
        suffix: std::fmt::Arguments<'_>,
    ) {
        let start = out.len();
        out.push_str(&self.prefix);
        out.push('{');
        let inside = out.len();
        escape(domain, out);
        for part in parts {
            let (key, mark, value) = match part {
                KeyPart::Own { key, value } => (key, '=', value),
                KeyPart::Shared { key, pattern } => (key, '~', pattern),
            };
            out.push('|');
            escape(key, out);
            out.push(mark);
            escape(value, out);
        }
        let end = out.len();
        out.push_str("}:");
        // Writing into a String can't fail.
        let _ = out.write_fmt(suffix);
        if out.len() - start > ENCODED_BYTES_MAX {
            let digest = Sha256::digest(&out.as_bytes()[inside..end]);
            let mut hex = String::with_capacity(33);
            hex.push('#');
            for byte in &digest[..16] {
                let _ = write!(hex, "{byte:02x}");
            }
            out.replace_range(inside..end, &hex);
        }
    }
}

/// What stands for itself in a key; all else is `%XX`.
const fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'@' | b'+' | b'*' | b',')
}

fn escape(text: &str, out: &mut String) {
    if text.bytes().all(plain) {
        out.push_str(text);
        return;
    }
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(domain: &str, parts: &[KeyPart<'_>]) -> String {
        let mut out = String::new();
        let encoder = KeyEncoder::new("rk:").expect("a plain prefix");
        encoder.encode(&mut out, domain, parts.iter().copied(), format_args!("sw1:60"));
        out
    }

    fn own<'a>(key: &'a str, value: &'a str) -> KeyPart<'a> {
        KeyPart::Own { key, value }
    }

    #[test]
    fn a_key_is_readable() {
        assert_eq!(
            key("web", &[own("user", "alice"), own("path", "/a b")]),
            "rk:{web|user=alice|path=/a%20b}:sw1:60"
        );
        assert_eq!(
            key(
                "web",
                &[KeyPart::Shared {
                    key: "path",
                    pattern: "/api/*"
                }]
            ),
            "rk:{web|path~/api/*}:sw1:60"
        );
    }

    /// Known bug 19 of published limiters: `a_b` + `c` and `a` + `b_c` had one key.
    #[test]
    fn bug_19_delimiters_in_values_do_not_imitate_another_key() {
        let keys = [
            key("d", &[own("a_b", "c")]),
            key("d", &[own("a", "b_c")]),
            key("d", &[own("a", "b|c=d")]),
            key("d", &[own("a", "b"), own("c", "d")]),
            key("d", &[own("a", "b%7Cc=d")]),
            key("d|a=b", &[own("c", "d")]),
            key("d", &[own("a", "*")]),
            key(
                "d",
                &[KeyPart::Shared {
                    key: "a",
                    pattern: "*",
                }],
            ),
            key("d", &[own("a", "}:sw1:1{")]),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a, b);
            }
            assert_eq!(a.matches('{').count(), 1);
            assert_eq!(a.matches('}').count(), 1);
        }
    }

    #[test]
    fn long_values_are_counted_under_their_hash() {
        let long = "x".repeat(65_536);
        let other = format!("{long}y");
        let (a, b) = (key("d", &[own("k", &long)]), key("d", &[own("k", &other)]));
        assert!(a.len() <= ENCODED_BYTES_MAX && b.len() <= ENCODED_BYTES_MAX);
        assert_ne!(a, b);
        assert!(a.starts_with("rk:{#") && a.ends_with("}:sw1:60"));
    }

    #[test]
    fn a_prefix_with_braces_is_refused() {
        assert!(KeyEncoder::new("x{y}").is_err());
    }
}
