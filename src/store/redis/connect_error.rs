//! Why there is no connection, in words for the log.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};
use tokio_rustls::rustls::{CertificateError, Error as TlsError};

use super::server::ServerError;

/// Why there is no connection. No text repeats a password, and the same reason has the same text at each attempt.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ConnectError {
    /// Not even tried.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// Too slow.
    #[error("no connection within {0:?}")]
    Timeout(Duration),
    /// The server only follows another one.
    #[error("it is a replica")]
    Replica,
    /// The same of a server that is not the node itself.
    #[error("{0}: {1}")]
    At(String, Box<Self>),
    /// Nobody says where the primary is.
    #[error("nobody names a primary")]
    NoPrimary,
    /// The server does not take user and password.
    #[error("wrong user or password, or none is set there")]
    Password,
    /// A network's error.
    #[error("{0}")]
    Network(String),
    /// A TLS or a server's error.
    #[error("{0}")]
    Refused(String),
}

impl ConnectError {
    /// The same, said of this server.
    pub fn at(self, server: impl ToString) -> Self {
        Self::At(server.to_string(), Box::new(self))
    }

    /// A server's own words are left out: some repeat what they were sent.
    pub fn of(error: &RedisError) -> Self {
        if let Some(text) = certificate_fault(error) {
            Self::Refused(text)
        } else if error.is_timeout() {
            Self::Network("no answer in time".to_owned())
        } else if error.kind() == ErrorKind::Io {
            Self::Network(error.to_string())
        } else if error.kind() == ErrorKind::AuthenticationFailed {
            Self::Password
        } else {
            // Of several commands at once the first that was refused says it.
            let refused = error.clone().into_server_errors();
            let first = refused.as_ref().and_then(|errors| Some(&errors.first()?.1));
            let code = first.map(|error| error.code()).or(error.code());
            let code = code.unwrap_or(error.category());
            let detail = first.map_or(error.detail(), |error| error.details());
            Self::Refused(match meaning(code, detail.unwrap_or_default()) {
                Some(meaning) => format!("refused: {code}: {meaning}"),
                None => format!("refused: {code}"),
            })
        }
    }
}

/// What a server's refusal means, in our words.
fn meaning(code: &str, detail: &str) -> Option<&'static str> {
    Some(match code {
        "READONLY" => "it takes no writes, since it is a replica",
        "MASTERDOWN" => "it is a replica without its primary",
        "LOADING" => "it loads its data",
        "BUSY" => "somebody's script keeps it busy",
        "OOM" => "its memory is full",
        "MISCONF" => "it takes no writes, since it could not save its data",
        "NOREPLICAS" => "it takes no writes, since too few replicas follow it",
        "CLUSTERDOWN" => "its cluster is not complete",
        "MOVED" | "ASK" | "TRYAGAIN" => "its slots are moving",
        "NOAUTH" => "it wants a password",
        "NOPERM" => "the user may not do what is needed",
        "DENIED" => "its protected mode takes clients of its own machine only",
        "ERR" if detail.contains("max number of clients") => "it has as many clients as it may have",
        _ => return None,
    })
}

/// What is wrong with the server's certificate, if anything is. The TLS library's own texts say what time it is.
fn certificate_fault(error: &RedisError) -> Option<String> {
    let source = error.source()?;
    // The client library shares its sources, and a share is an error of its own.
    let shared = source.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    let io = shared
        .map_or(source, |shared| &**shared)
        .downcast_ref::<io::Error>()?;
    let TlsError::InvalidCertificate(fault) = io.get_ref()?.downcast_ref()? else {
        return None;
    };
    let of = "the server's certificate";
    Some(match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!("{of} has expired"),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("{of} is not valid yet")
        }
        CertificateError::UnknownIssuer => format!("{of} does not come from a trusted authority"),
        CertificateError::NotValidForName => format!("{of} is for another host"),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "{of} is for another host: {} is not among {}",
            expected.to_str(),
            presented.join(", ")
        ),
        other => format!("{of} does not do: {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_certificate_has_the_same_text_at_any_time() {
        let at = |now: u64| {
            let seconds = |seconds| {
                tokio_rustls::rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(seconds))
            };
            let fault = CertificateError::ExpiredContext {
                time: seconds(now),
                not_after: seconds(10),
            };
            let io = io::Error::new(io::ErrorKind::InvalidData, TlsError::InvalidCertificate(fault));
            ConnectError::of(&RedisError::from(io))
        };
        assert_eq!(at(11), at(12));
        assert_eq!(at(11).to_string(), "the server's certificate has expired");
    }

    #[test]
    fn the_words_of_a_network_are_kept_and_those_of_a_server_are_not() {
        let io = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            ConnectError::of(&RedisError::from(io)).to_string(),
            "connection refused"
        );
        let server = redis::make_extension_error("ERR".to_owned(), Some("unknown: AUTH hunter2".to_owned()));
        assert_eq!(ConnectError::of(&server).to_string(), "refused: ERR");
        let full =
            redis::make_extension_error("ERR".to_owned(), Some("max number of clients reached".to_owned()));
        assert_eq!(
            ConnectError::of(&full).to_string(),
            "refused: ERR: it has as many clients as it may have"
        );
    }
}
