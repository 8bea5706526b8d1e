//! What became of a request.

/// How one request ended. The names are what reports count by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Admitted.
    Ok,
    /// Denied.
    OverLimit,
    /// Answered, but not with a decision: a gRPC status other than OK, an HTTP status, a malformed message.
    Error(&'static str),
    /// No answer came: the time ran out, the connection was lost, the stream was reset.
    Unanswered(&'static str),
}

impl Outcome {
    /// The time to answer ran out.
    pub const TIMEOUT: Self = Self::Unanswered("timeout");
    /// The connection ended with the request in flight.
    pub const CONNECTION_LOST: Self = Self::Unanswered("connection lost");
    /// The server reset the stream.
    pub const STREAM_RESET: Self = Self::Unanswered("stream reset");
    /// An answer that can't be read.
    pub const MALFORMED: Self = Self::Error("malformed answer");
    /// An answer with the code UNKNOWN.
    pub const NO_CODE: Self = Self::Error("answer without a code");
    /// No trailers with a `grpc-status`.
    pub const NO_STATUS: Self = Self::Error("no grpc-status");
    /// An HTTP status other than 200.
    pub const HTTP_STATUS: Self = Self::Error("http status");

    /// Whether the server decided.
    pub fn is_decision(self) -> bool {
        matches!(self, Self::Ok | Self::OverLimit)
    }
}
