//! TLS on the gRPC port, with certificates that are read again when their files change.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, client::verify_server_name, crypto::ring};
use tokio_rustls::server::TlsStream;

/// A handshake takes at most this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where keys and certificates are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain, PEM.
    pub cert: PathBuf,
    /// The server's private key, PEM.
    pub key: PathBuf,
    /// The authority that clients' certificates must come from; `None`: clients need none.
    pub client_ca: Option<PathBuf>,
    /// A DNS name that a client's certificate must hold.
    pub client_san: Option<String>,
}

/// What is wrong with TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or holds no PEM of the kind wanted.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificate, key and authority do not fit together.
    #[error("tls settings: {0}")]
    Settings(String),
    /// A client did not come through the handshake.
    #[error("tls handshake: {0}")]
    Handshake(String),
}

/// Accepts TLS connections.
#[derive(Debug)]
pub struct Tls {
    files: TlsFiles,
    san: Option<ServerName<'static>>,
    config: ArcSwap<ServerConfig>,
    /// What the files held when they were last looked at, so that an unchanged one keeps its sessions.
    seen: AtomicU64,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// Files that can't be read or do not fit together.
    pub fn new(files: TlsFiles) -> Result<Self, TlsError> {
        let san = match &files.client_san {
            Some(name) => Some(
                ServerName::try_from(name.clone())
                    .map_err(|error| TlsError::Settings(format!("client san {name:?}: {error}")))?,
            ),
            None => None,
        };
        if san.is_some() && files.client_ca.is_none() {
            return Err(TlsError::Settings(
                "a client san needs a client ca, else nothing checks it".to_owned(),
            ));
        }
        let seen = AtomicU64::new(fingerprint(&files));
        let config = ArcSwap::from_pointee(read(&files)?);
        Ok(Self {
            files,
            san,
            config,
            seen,
        })
    }

    /// Reads the files again if they changed, and says so; the old ones stay in force if that fails. New connections get the
    /// new ones.
    ///
    /// # Errors
    /// Files that can't be read or do not fit together, each time they change to such.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let now = fingerprint(&self.files);
        if self.seen.swap(now, Ordering::Relaxed) == now {
            return Ok(false);
        }
        self.config.store(Arc::new(read(&self.files)?));
        Ok(true)
    }

    /// Does the server's part of a handshake.
    ///
    /// # Errors
    /// A client that is too slow, speaks no TLS, or whose certificate does not do.
    pub async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, TlsError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        let stream = match handshake.await {
            Ok(done) => done.map_err(|error| TlsError::Handshake(error.to_string()))?,
            Err(_) => return Err(TlsError::Handshake("took too long".to_owned())),
        };
        if let Some(san) = &self.san {
            let (_, session) = stream.get_ref();
            let certificate = session.peer_certificates().and_then(<[_]>::first);
            let fits = certificate
                .and_then(|der| ParsedCertificate::try_from(der).ok())
                .is_some_and(|parsed| verify_server_name(&parsed, san).is_ok());
            if !fits {
                return Err(TlsError::Handshake(
                    "the client's certificate lacks the name asked for".to_owned(),
                ));
            }
        }
        Ok(stream)
    }
}

/// Of the files' contents; what can't be read counts as empty.
fn fingerprint(files: &TlsFiles) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in [Some(&files.cert), Some(&files.key), files.client_ca.as_ref()]
        .into_iter()
        .flatten()
    {
        std::fs::read(path).unwrap_or_default().hash(&mut hasher);
    }
    hasher.finish()
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let fault = |path: &Path, reason: String| TlsError::File {
        path: path.display().to_string(),
        reason,
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let list = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match list {
            Ok(list) if list.is_empty() => Err(fault(path, "holds no certificate".to_owned())),
            Ok(list) => Ok(list),
            Err(error) => Err(fault(path, error.to_string())),
        }
    };
    let chain = certificates(&files.cert)?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| fault(&files.key, error.to_string()))?;
    let provider = Arc::new(ring::default_provider());
    let settings = |error: &dyn std::fmt::Display| TlsError::Settings(error.to_string());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| settings(&error))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| fault(path, error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| settings(&error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| settings(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
