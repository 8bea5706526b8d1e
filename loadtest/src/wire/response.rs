//! The answer, read by hand: the one field that decides.

use thiserror::Error;

use super::{PREFIX_BYTES, varint};

/// `RateLimitResponse.overall_code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 0, or a number the API does not know: no decision.
    Unknown,
    /// 1: the request may go on.
    Ok,
    /// 2: it may not.
    OverLimit,
}

/// An answer that is not one `RateLimitResponse` in one uncompressed gRPC message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("malformed answer")]
pub struct Malformed;

/// The decision in a framed message. Unknown fields are skipped; of a repeated field the last one counts.
pub fn overall_code(framed: &[u8]) -> Result<Code, Malformed> {
    let (prefix, mut rest) = framed.split_at_checked(PREFIX_BYTES).ok_or(Malformed)?;
    let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]);
    if prefix[0] != 0 || usize::try_from(length) != Ok(rest.len()) {
        return Err(Malformed);
    }
    let mut code = 0;
    while !rest.is_empty() {
        let tag = varint::take(&mut rest).ok_or(Malformed)?;
        let skipped = match tag & 7 {
            varint::VARINT => {
                let value = varint::take(&mut rest).ok_or(Malformed)?;
                if tag >> 3 == 1 {
                    code = value;
                }
                0
            }
            varint::FIXED64 => 8,
            varint::LENGTH_DELIMITED => varint::take(&mut rest).ok_or(Malformed)?,
            varint::FIXED32 => 4,
            _ => return Err(Malformed),
        };
        let skipped = usize::try_from(skipped).map_err(|_| Malformed)?;
        rest = rest.get(skipped..).ok_or(Malformed)?;
    }
    Ok(match code {
        1 => Code::Ok,
        2 => Code::OverLimit,
        _ => Code::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("short").to_be_bytes();
        [&[0], length.as_slice(), body].concat()
    }

    #[test]
    fn the_code_is_found_among_other_fields() {
        let table: [(&[u8], Code); 6] = [
            (b"\x08\x01", Code::Ok),
            (b"\x08\x02", Code::OverLimit),
            (b"", Code::Unknown),
            (b"\x08\x07", Code::Unknown),
            (b"\x12\x02\x08\x02\x08\x01\x2a\x01x", Code::Ok),
            (
                b"\x3d\x01\x02\x03\x04\x39\x01\x02\x03\x04\x05\x06\x07\x08\x08\x02",
                Code::OverLimit,
            ),
        ];
        for (body, code) in table {
            assert_eq!(overall_code(&framed(body)), Ok(code), "{body:?}");
        }
    }

    #[test]
    fn whatever_is_not_a_message_is_refused() {
        let whole = framed(b"\x12\x02\x08\x02\x08\x01");
        for cut in 0..whole.len() {
            assert_eq!(overall_code(&whole[..cut]), Err(Malformed), "{cut}");
        }
        let compressed = [&[1], &whole[1..]].concat();
        assert_eq!(overall_code(&compressed), Err(Malformed));
        for body in [b"\x12\xff\x01".as_slice(), b"\x0b", b"\x08", b"\x3d\x01"] {
            assert_eq!(overall_code(&framed(body)), Err(Malformed), "{body:?}");
        }
    }
}
