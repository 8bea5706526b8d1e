//! Messages in a stream of bytes: each behind five bytes, a flag for compression and its length.

use prost::Message;
use prost::bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tonic::Status;

/// The bytes before a message.
pub(in crate::wire) const PREFIX: usize = 5;

/// Takes the messages out of a request's body. What arrives in one piece is not copied.
#[derive(Debug)]
pub struct Reader {
    bytes_max: usize,
    held: Held,
}

/// Bytes that have arrived and are not yet a message.
#[derive(Debug)]
enum Held {
    One(Bytes),
    Joined(BytesMut),
}

impl Reader {
    /// A reader of messages of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            held: Held::One(Bytes::new()),
        }
    }

    /// Takes what has arrived. The caller takes the messages out before it brings more, so no more than one message and one
    /// chunk is held.
    pub fn push(&mut self, chunk: Bytes) {
        match &mut self.held {
            Held::One(held) if held.is_empty() => *held = chunk,
            Held::One(held) => {
                // It grows with what has come, not by what the prefix says will come.
                let mut joined = BytesMut::with_capacity(held.len() + chunk.len());
                joined.extend_from_slice(held);
                joined.extend_from_slice(&chunk);
                self.held = Held::Joined(joined);
            }
            Held::Joined(held) => held.extend_from_slice(&chunk),
        }
    }

    /// The next message that is complete.
    ///
    /// # Errors
    /// A message that is too large or compressed, or a flag that does not exist; the stream is of no use then.
    pub fn message(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.bytes().first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let [flag, length @ ..] = *prefix;
        match flag {
            0 => {}
            1 => {
                return Err(Status::internal(
                    "protocol error: received message with compressed-flag but no grpc-encoding was specified",
                ));
            }
            other => {
                return Err(Status::internal(format!(
                    "protocol error: received message with invalid compression flag: {other} (valid flags are 0 and 1)"
                )));
            }
        }
        // 32 bits fit on every machine that this runs on; elsewhere such a length is above any bound.
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > self.bytes_max {
            return Err(Status::out_of_range(format!(
                "message length too large: found {length} bytes, the limit is: {} bytes",
                self.bytes_max
            )));
        }
        if self.bytes().len() - PREFIX < length {
            return Ok(None);
        }
        Ok(Some(self.split(length)))
    }

    /// Says whether the stream may end here.
    ///
    /// # Errors
    /// A message that has begun.
    pub fn finish(&self) -> Result<(), Status> {
        if self.bytes().is_empty() {
            return Ok(());
        }
        Err(Status::internal("unexpected end of stream within a message"))
    }

    fn bytes(&self) -> &[u8] {
        match &self.held {
            Held::One(held) => held,
            Held::Joined(held) => held,
        }
    }

    /// Takes a message of `length` bytes that are there, and its prefix.
    fn split(&mut self, length: usize) -> Bytes {
        match &mut self.held {
            Held::One(held) => {
                held.advance(PREFIX);
                held.split_to(length)
            }
            Held::Joined(held) => {
                held.advance(PREFIX);
                held.split_to(length).freeze()
            }
        }
    }
}

/// A message behind its prefix, in one piece.
///
/// # Errors
/// A message that is longer than a prefix can say.
pub fn framed(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let Ok(said) = u32::try_from(length) else {
        return Err(Status::resource_exhausted(format!("an answer of {length} bytes")));
    };
    let mut bytes = BytesMut::with_capacity(PREFIX + length);
    bytes.put_u8(0);
    bytes.put_u32(said);
    message
        .encode(&mut bytes)
        .map_err(|error| Status::internal(error.to_string()))?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(message);
        bytes
    }

    #[test]
    fn messages_come_out_however_the_bytes_are_cut() {
        let messages: [&[u8]; 4] = [b"", b"a", b"", b"a longer one"];
        let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        for step in 1..=bytes.len() {
            let mut reader = Reader::new(12);
            let mut found = Vec::new();
            for chunk in bytes.chunks(step) {
                reader.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = reader.message().expect("no fault") {
                    found.push(message);
                }
            }
            assert_eq!(found, messages, "in steps of {step}");
            reader.finish().expect("nothing is left");
        }
    }

    #[test]
    fn a_whole_message_is_not_copied() {
        let bytes = Bytes::from(framed(b"in one piece"));
        let mut reader = Reader::new(100);
        reader.push(bytes.clone());
        let message = reader.message().expect("no fault").expect("a message");
        assert_eq!(message.as_ptr(), bytes[PREFIX..].as_ptr());
    }

    #[test]
    fn what_is_no_message_is_refused_as_soon_as_it_is_seen() {
        for (bytes, code) in [
            (&[0, 0, 0, 0, 13][..], Code::OutOfRange),
            (&[0, 255, 255, 255, 255], Code::OutOfRange),
            (&[1, 0, 0, 0, 1, 7], Code::Internal),
            (&[2, 0, 0, 0, 1, 7], Code::Internal),
        ] {
            let mut reader = Reader::new(12);
            reader.push(Bytes::copy_from_slice(bytes));
            let status = reader.message().expect_err("it is refused");
            assert_eq!(status.code(), code, "{bytes:?}");
        }
    }

    #[test]
    fn half_a_message_is_no_end() {
        for bytes in [&[0][..], &[0, 0, 0, 0, 1]] {
            let mut reader = Reader::new(12);
            reader.push(Bytes::copy_from_slice(bytes));
            assert!(reader.message().expect("no fault").is_none());
            assert!(reader.finish().is_err(), "{bytes:?}");
        }
    }
}
