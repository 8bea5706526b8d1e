//! Which slot of a Redis Cluster a key is in, as the cluster specification says. No I/O here.

use std::fmt::Write as _;

/// Slots of a cluster.
pub const SLOTS: usize = 16_384;

/// The slot of a key: CRC16 (XMODEM) of what stands between its first brace and the next closing one, or of all of it.
#[must_use]
pub fn slot_of(key: &str) -> u16 {
    let tag = key
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map_or(key, |(tag, _)| if tag.is_empty() { key } else { tag });
    crc16::State::<crc16::XMODEM>::calculate(tag.as_bytes()) % 16_384
}

/// A number that as a tag, `{<n>}`, is in a slot that `wanted` takes; `None` if it takes hardly any.
#[must_use]
pub fn tag_in(wanted: impl Fn(u16) -> bool) -> Option<u32> {
    let mut text = String::new();
    (0..4 * 16_384).find(|number| {
        text.clear();
        // Writing into a String can't fail.
        let _ = write!(text, "{number}");
        wanted(slot_of(&text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(slot_of("123456789"), 0x31C3);
        assert_eq!(slot_of("foo"), 12_182);
        assert_eq!(slot_of("rk:{foo}:sw1:60"), 12_182);
        assert_eq!(slot_of("{foo}{bar}"), 12_182);
        assert_eq!(slot_of("foo{}{bar}"), slot_of("foo{}{bar}"));
        assert_ne!(slot_of("foo{}{bar}"), slot_of("bar"));
    }

    #[test]
    fn a_key_can_be_found_for_any_slot() {
        for slot in [0, 1, 8_191, 16_383] {
            let tag = tag_in(|it| it == slot).expect("some number does");
            assert_eq!(slot_of(&format!("rk:{{{tag}}}seen")), slot);
        }
        assert_eq!(tag_in(|_| false), None);
    }
}
