//! gRPC's status codes by name: <https://grpc.io/docs/guides/status-codes/>.

const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The name of the `grpc-status` in a header's value; `None` if it is not one.
pub fn status_name(value: &[u8]) -> Option<&'static str> {
    let number: usize = std::str::from_utf8(value).ok()?.parse().ok()?;
    NAMES.get(number).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_names() {
        assert_eq!(status_name(b"0"), Some("OK"));
        assert_eq!(status_name(b"4"), Some("DEADLINE_EXCEEDED"));
        assert_eq!(status_name(b"16"), Some("UNAUTHENTICATED"));
        for bad in [b"17".as_slice(), b"-1", b"", b"x", b"\xff"] {
            assert_eq!(status_name(bad), None);
        }
    }
}
