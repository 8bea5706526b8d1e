//! Counter keys: `<prefix>{<domain>|<entry>|…}:<algorithm>:<window in s>`.
//!
//! Every part is percent-escaped, so that no client's value can imitate another key. An entry is `key=value`, a pattern that
//! many values share is `key~pattern`. The braces are Redis Cluster's slot tag: it hashes what is between the first `{` and the
//! `}` after it, so that keys with the same tag are on the same node.
//!
//! With `shard_by`, the tag is the domain and the first entry of that key, and all entries follow it:
//! `<prefix>{<domain>|<entry>}|<entry>|…:<algorithm>:<window in s>`. All counters of one value so are in one slot.
//!
//! **No two identities have one key.** Behind the `}` stands `:` in the one form and `|` in the other. Up to there nothing that
//! separates or marks parts (`{`, `}`, `|`, `=`, `~`, `#`) is ever part of one. Only `:` stands for itself in values, too. It moves
//! no boundary: read from the end, a suffix is numbers and then the name of an algorithm, which is no number.
//!
//! **Length.** What would make a key longer than [`ENCODED_BYTES_MAX`] stands as `#` and the first 128 bits of its SHA-256: what
//! is in the braces, or with `shard_by` what is behind them. The tag with `shard_by` is hashed on its own, and by its own length
//! and the prefix's alone: else long and short keys of one tenant would be in different slots.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// The longest key in bytes, for prefixes of at most 150 and suffixes of at most 26, which is what the longest window and
/// number need.
pub const ENCODED_BYTES_MAX: usize = 256;

/// The most bytes of prefix and tag with `shard_by`, so that `}|`, a hash and the suffix fit behind them.
const HEAD_BYTES_MAX: usize = ENCODED_BYTES_MAX - 2 - HASHED_BYTES - 26;

/// The length of what stands for something long.
const HASHED_BYTES: usize = 33;

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

/// The end of a key: how it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySuffix {
    /// Algorithm and version of the format, at most 3 characters.
    pub algorithm: &'static str,
    /// The window in seconds.
    pub window_s: u64,
    /// A number that keeps counters of different limits apart.
    pub number: Option<u32>,
}

impl KeySuffix {
    fn write(self, out: &mut String) {
        out.push_str(self.algorithm);
        push_number(self.window_s, out);
        if let Some(number) = self.number {
            push_number(number.into(), out);
        }
    }
}

/// Appends a colon and a number, without what the standard library's formatting costs.
fn push_number(mut number: u64, out: &mut String) {
    let mut digits = [b':'; 21];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(std::str::from_utf8(&digits[from - 1..]).unwrap_or_default());
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

    /// Appends a key to `out`; `suffix` names the algorithm and the window. Nothing is allocated but by `out`. With `shard_by` the first of the `parts` with that
    /// key is the slot tag; where none has it, the key is the same as without.
    pub fn encode<'a>(
        &self,
        out: &mut String,
        domain: &str,
        shard_by: Option<&str>,
        parts: impl IntoIterator<Item = KeyPart<'a>, IntoIter: Clone>,
        suffix: KeySuffix,
    ) {
        let start = out.len();
        let parts = parts.into_iter();
        out.push_str(&self.prefix);
        out.push('{');
        let tag = out.len();
        escape(domain, out);
        let shard = shard_by.and_then(|key| parts.clone().find(|part| part.key() == key));
        let (long, end) = match shard {
            None => (tag, "}:"),
            Some(part) => {
                part.write(out);
                if out.len() - start > HEAD_BYTES_MAX {
                    hash_from(out, tag);
                }
                out.push('}');
                // Behind the `|` of the first part.
                (out.len() + 1, ":")
            }
        };
        for part in parts {
            part.write(out);
        }
        let entries_end = out.len();
        out.push_str(end);
        suffix.write(out);
        if out.len() - start > ENCODED_BYTES_MAX {
            out.truncate(entries_end);
            hash_from(out, long);
            out.push_str(end);
            suffix.write(out);
        }
    }
}

impl KeyPart<'_> {
    fn key(&self) -> &str {
        match self {
            Self::Own { key, .. } | Self::Shared { key, .. } => key,
        }
    }

    fn write(self, out: &mut String) {
        let (key, mark, value) = match self {
            Self::Own { key, value } => (key, '=', value),
            Self::Shared { key, pattern } => (key, '~', pattern),
        };
        out.push('|');
        escape(key, out);
        out.push(mark);
        escape(value, out);
    }
}

/// Puts a hash in place of all from `from` on.
fn hash_from(out: &mut String, from: usize) {
    let digest = Sha256::digest(&out.as_bytes()[from..]);
    out.truncate(from);
    out.push('#');
    for byte in &digest[..HASHED_BYTES / 2] {
        let _ = write!(out, "{byte:02x}");
    }
}

/// What stands for itself in a key; all else is `%XX`.
const PLAIN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte as usize] = is_plain(byte);
        byte += 1;
    }
    table
};

const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'@' | b'+' | b'*' | b',')
}

fn plain(byte: u8) -> bool {
    PLAIN[usize::from(byte)]
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
        sharded(domain, None, parts)
    }

    fn sharded(domain: &str, by: Option<&str>, parts: &[KeyPart<'_>]) -> String {
        let mut out = String::new();
        let encoder = KeyEncoder::new("rk:").expect("a plain prefix");
        let parts = parts.iter().copied();
        let suffix = KeySuffix {
            algorithm: "sw1",
            window_s: 60,
            number: None,
        };
        encoder.encode(&mut out, domain, by, parts, suffix);
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
    fn with_shard_by_the_first_entry_of_that_key_is_the_tag() {
        let parts = [own("path", "/a"), own("tenant", "acme"), own("tenant", "b")];
        let shared = KeyPart::Shared {
            key: "tenant",
            pattern: "a*",
        };
        for (by, parts, expected) in [
            (
                "tenant",
                parts.as_slice(),
                "rk:{web|tenant=acme}|path=/a|tenant=acme|tenant=b:sw1:60",
            ),
            (
                "path",
                &parts,
                "rk:{web|path=/a}|path=/a|tenant=acme|tenant=b:sw1:60",
            ),
            ("user", &parts, "rk:{web|path=/a|tenant=acme|tenant=b}:sw1:60"),
            ("path", &parts[..1], "rk:{web|path=/a}|path=/a:sw1:60"),
            ("tenant", &[shared], "rk:{web|tenant~a*}|tenant~a*:sw1:60"),
        ] {
            assert_eq!(sharded("web", Some(by), parts), expected);
        }
    }

    /// The same bytes would be needed in a place where they are escaped.
    #[test]
    fn values_imitate_neither_the_tag_nor_a_hash_nor_the_suffix() {
        let hashed = sharded("d", Some("t"), &[own("t", "a"), own("p", &"x".repeat(300))]);
        let (_, rest) = hashed.split_once("}|").expect("a tag");
        let rest = rest.strip_suffix(":sw1:60").expect("a suffix");
        assert_eq!(rest.len(), HASHED_BYTES);
        let keys = [
            hashed.clone(),
            sharded("d", Some("t"), &[own("t", "a")]),
            key("d", &[own("t", "a")]),
            key("d", &[own("t", "a}|t=a")]),
            key("d", &[own("t", "a"), own("t", "a")]),
            sharded("d", Some("t"), &[own("t", "a"), own("t", "a")]),
            sharded("d", Some("t"), &[own("t", "a:sw1:60")]),
            sharded("d", Some("t"), &[own("t", "a|t=a")]),
            sharded("d", Some("t"), &[own("t", "a"), own(rest, "")]),
            sharded("d", Some("t"), &[own("t", "a"), own("p", rest)]),
            sharded("d|t=a", Some("t"), &[own("t", "a")]),
        ];
        for (i, a) in keys.iter().enumerate() {
            for b in &keys[i + 1..] {
                assert_ne!(a, b);
            }
        }
    }

    #[test]
    fn tag_and_rest_are_hashed_each_on_its_own() {
        let long = "x".repeat(65_536);
        let tag = |key: &str| key.split_once('}').expect("a tag").0.to_owned();
        for tenant in ["a", "x".repeat(180).as_str(), "x".repeat(190).as_str(), &long] {
            let short = sharded("d", Some("t"), &[own("t", tenant)]);
            for value in ["", "y", &"y".repeat(40), &"y".repeat(230), &long] {
                let key = sharded("d", Some("t"), &[own("t", tenant), own("p", value)]);
                assert_eq!(tag(&key), tag(&short));
                assert_ne!(key, short);
                assert!(key.len() <= ENCODED_BYTES_MAX, "{} bytes", key.len());
            }
        }
        let other = sharded("d", Some("t"), &[own("t", &format!("{long}y"))]);
        assert_ne!(tag(&other), tag(&sharded("d", Some("t"), &[own("t", &long)])));
    }

    /// With the longest prefix that the bound is for, and the longest suffix.
    #[test]
    fn keys_are_bounded_with_long_prefixes_too() {
        let encoder = KeyEncoder::new(&"p".repeat(150)).expect("a plain prefix");
        for length in 0..300 {
            let value = "x".repeat(length);
            for by in [None, Some("t")] {
                let mut out = String::new();
                let parts = [own("t", &value), own("p", &value)];
                encoder.encode(
                    &mut out,
                    "d",
                    by,
                    parts,
                    KeySuffix {
                        algorithm: "tb1",
                        window_s: 3_153_600_000,
                        number: Some(u32::MAX),
                    },
                );
                assert!(out.len() <= ENCODED_BYTES_MAX, "{length}: {} bytes", out.len());
            }
        }
    }

    #[test]
    fn a_prefix_with_braces_is_refused() {
        assert!(KeyEncoder::new("x{y}").is_err());
    }
}
