//! The request, written by hand: for a key of a given length every byte but the key itself is known in advance.

use bytes::Bytes;

use super::{PREFIX_BYTES, varint};

// Tags: field number << 3 | wire type.
const DOMAIN: u8 = 0x0a;
const DESCRIPTOR: u8 = 0x12;
const HITS_ADDEND: u8 = 0x18;
const ENTRY: u8 = 0x0a;
const KEY: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// A piece of a [`Text`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The key in decimal, with zeros in front up to this width.
    Key(usize),
}

/// A text with places for the key: `user-{key}`, or `{key:8}` for the key with zeros in front up to 8 digits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    pieces: Vec<Piece>,
}

impl Text {
    /// Parses a template; any brace that is not part of a placeholder is an error.
    pub fn parse(template: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(open) = rest.find(['{', '}']) {
            let problem = || {
                format!(
                    "{template}: expected {{key}} or {{key:WIDTH}} at {}",
                    &rest[open..]
                )
            };
            let inner = rest[open..].strip_prefix("{key").ok_or_else(problem)?;
            let (width, after) = inner.split_once('}').ok_or_else(problem)?;
            let width = match width.strip_prefix(':') {
                Some(digits) => digits
                    .parse()
                    .ok()
                    .filter(|width| *width <= 64)
                    .ok_or_else(problem)?,
                None if width.is_empty() => 0,
                None => return Err(problem()),
            };
            if open > 0 {
                pieces.push(Piece::Literal(rest[..open].to_owned()));
            }
            pieces.push(Piece::Key(width));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// Whether it differs by key.
    pub fn has_key(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Key(_)))
    }

    /// The bytes it takes with a key of so many digits.
    fn len(&self, digits: usize) -> usize {
        let len = |piece: &Piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Key(width) => digits.max(*width),
        };
        self.pieces.iter().map(len).sum()
    }
}

/// One descriptor of the template: its entries, in order.
pub type Descriptor = Vec<(Text, Text)>;

/// A request for keys of one length: all bytes, with zeros where the key's digits go.
#[derive(Debug, Clone)]
pub struct Shape {
    bytes: Vec<u8>,
    /// Where the key's first digit goes.
    holes: Vec<usize>,
}

impl Shape {
    /// The request of these descriptors with keys of `digits` digits.
    pub fn new(domain: &str, descriptors: &[Descriptor], digits: usize) -> Self {
        let mut shape = Self {
            bytes: vec![0; PREFIX_BYTES],
            holes: Vec::new(),
        };
        if !domain.is_empty() {
            shape.length_delimited(DOMAIN, domain.len());
            shape.bytes.extend_from_slice(domain.as_bytes());
        }
        for descriptor in descriptors {
            let entries = descriptor.iter().map(|entry| field_len(entry_len(entry, digits)));
            shape.length_delimited(DESCRIPTOR, entries.sum());
            for entry in descriptor {
                shape.length_delimited(ENTRY, entry_len(entry, digits));
                shape.text(KEY, &entry.0, digits);
                shape.text(VALUE, &entry.1, digits);
            }
        }
        shape
    }

    /// The framed message for this key; `hits: None` leaves `hits_addend` out, which means 1.
    ///
    /// `key` must have the number of digits the shape was made for.
    pub fn message(&self, key: &[u8], hits: Option<u32>) -> Bytes {
        let mut bytes = Vec::with_capacity(self.bytes.len() + 6);
        bytes.extend_from_slice(&self.bytes);
        for hole in &self.holes {
            bytes[*hole..*hole + key.len()].copy_from_slice(key);
        }
        if let Some(hits) = hits.filter(|hits| *hits > 0) {
            bytes.push(HITS_ADDEND);
            varint::put(&mut bytes, hits.into());
        }
        let length = u32::try_from(bytes.len() - PREFIX_BYTES).unwrap_or(u32::MAX);
        bytes[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        bytes.into()
    }

    fn length_delimited(&mut self, tag: u8, len: usize) {
        self.bytes.push(tag);
        varint::put(&mut self.bytes, len as u64);
    }

    fn text(&mut self, tag: u8, text: &Text, digits: usize) {
        let len = text.len(digits);
        if len == 0 {
            return; // proto3 leaves empty strings out
        }
        self.length_delimited(tag, len);
        for piece in &text.pieces {
            match piece {
                Piece::Literal(literal) => self.bytes.extend_from_slice(literal.as_bytes()),
                Piece::Key(width) => {
                    self.bytes
                        .resize(self.bytes.len() + width.saturating_sub(digits), b'0');
                    self.holes.push(self.bytes.len());
                    self.bytes.resize(self.bytes.len() + digits, b'0');
                }
            }
        }
    }
}

fn entry_len((key, value): &(Text, Text), digits: usize) -> usize {
    let string = |text: &Text| match text.len(digits) {
        0 => 0,
        len => field_len(len),
    };
    string(key) + string(value)
}

/// A length-delimited field: tag, length, content.
fn field_len(content: usize) -> usize {
    1 + varint::width(content as u64) + content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders() {
        let text = Text::parse("user-{key:4}/{key}").expect("valid");
        assert_eq!(text.len(2), "user-0042/42".len());
        assert!(text.has_key());
        assert!(!Text::parse("plain").expect("valid").has_key());
        for bad in [
            "{", "}", "{key", "{keys}", "{key:}", "{key:65}", "{key:-1}", "a{b}c", "{{key}}",
        ] {
            assert!(Text::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hand_checked_bytes() {
        let entry = (
            Text::parse("id").expect("valid"),
            Text::parse("u{key}").expect("valid"),
        );
        let shape = Shape::new("d", &[vec![entry]], 2);
        let body = b"\x0a\x01d\x12\x0b\x0a\x09\x0a\x02id\x12\x03u42\x18\xac\x02";
        let expected = [&[0, 0, 0, 0, 19], body.as_slice()].concat();
        assert_eq!(shape.message(b"42", Some(300)), expected);
        assert_eq!(
            shape.message(b"42", None),
            [&[0, 0, 0, 0, 16], &body[..16]].concat()
        );
    }
}
