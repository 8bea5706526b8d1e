//! A server with what it takes to be let in. Passwords and certificates that live in files are read anew for each connection, so
//! that whoever rotates them has nothing to restart.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use base64::Engine as _;
use redis::{Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, TlsCertificates};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use super::address::{Address, AddressError};

/// How a server's certificate is checked, and what is shown to it. Of no effect where the address asks for no TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authorities of the server's certificate, PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// This client's certificate chain and its private key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Whether the certificate may be for another host. The chain is checked all the same.
    pub skip_hostname: bool,
}

/// A server, and where its credentials are.
#[derive(Clone, Debug, Default)]
pub struct Server {
    /// Where it is.
    pub address: Address,
    /// A file whose first line is `password` or `user:password`; it wins over the address's own.
    pub auth_file: Option<PathBuf>,
    /// Used if the address asks for TLS.
    pub tls: TlsFiles,
}

/// Why a server can't even be tried. The texts name files and never what is in them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The address is none.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// A file can't be read or does not hold what it should.
    #[error("redis: {path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The system has no certificate authorities that could be read.
    #[error("redis tls: no certificate authorities of the system were found, name a file")]
    NoRoots,
    /// The client library refuses what the files hold.
    #[error("redis tls: {0}")]
    Refused(String),
}

impl Server {
    /// All that a connection needs, with the files as they are now. Reads files: not for a thread that serves.
    ///
    /// # Errors
    /// An address that is none; a file that can't be read or does not hold what it should.
    pub fn connection_info(&self) -> Result<ConnectionInfo, ServerError> {
        let mut address = self.address.clone();
        if let Some(path) = &self.auth_file {
            address.auth = first_line(path)?;
        }
        let info = address.parse()?;
        if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
            return Ok(info);
        }
        let client = Client::build_with_tls(info, self.tls.certificates()?)
            .map_err(|error| ServerError::Refused(error.category().to_owned()))?;
        let info = client.get_connection_info().clone();
        let mut addr = info.addr().clone();
        addr.set_danger_accept_invalid_hostnames(self.tls.skip_hostname);
        Ok(info.set_addr(addr))
    }

    /// The same credentials, TLS and database at another address. An IPv6 host has no brackets.
    #[must_use]
    pub fn at(&self, host: &str, port: u16) -> Self {
        let mut other = self.clone();
        other.address.at = Some((host.to_owned(), port));
        other
    }

    /// Where it is, without credentials: `host:port`, `[::1]:port` or a path. `?` for what is no address.
    #[must_use]
    pub fn name(&self) -> String {
        match self.address.parse() {
            Ok(info) => name_of(info.addr()),
            Err(_) => "?".to_owned(),
        }
    }

    /// Whether there is nothing to read.
    pub(super) fn is_without_files(&self) -> bool {
        self.auth_file.is_none() && !self.address.is_tls()
    }
}

impl TlsFiles {
    /// The certificates as the client library takes them, checked here, because it neither names the file nor notices an empty one.
    ///
    /// # Errors
    /// A file that can't be read or does not hold what it should; a key that is not the certificate's.
    pub fn certificates(&self) -> Result<TlsCertificates, ServerError> {
        let root_cert = match &self.ca {
            Some(path) => authorities(path)?,
            None => system_roots()?,
        };
        let client_tls = match &self.client {
            Some((cert, key)) => Some(own(cert, key)?),
            None => None,
        };
        Ok(TlsCertificates {
            client_tls,
            root_cert: Some(root_cert),
        })
    }
}

fn name_of(addr: &ConnectionAddr) -> String {
    match addr {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } if host.contains(':') => {
            format!("[{host}]:{port}")
        }
        other => other.to_string(),
    }
}

fn fault(path: &Path, reason: impl Into<String>) -> ServerError {
    ServerError::File {
        path: path.display().to_string(),
        reason: reason.into(),
    }
}

fn contents(path: &Path) -> Result<Vec<u8>, ServerError> {
    std::fs::read(path).map_err(|error| fault(path, error.to_string()))
}

fn first_line(path: &Path) -> Result<String, ServerError> {
    let text = String::from_utf8(contents(path)?).map_err(|_| fault(path, "is not UTF-8"))?;
    match text.lines().next() {
        None | Some("") => Err(fault(path, "holds no password in its first line")),
        Some(line) => Ok(line.to_owned()),
    }
}

/// What is wrong with PEM, without the line that is wrong: it may be a private key whose line breaks were lost.
fn pem_fault(path: &Path, what: &str, error: &PemError) -> ServerError {
    match error {
        PemError::NoItemsFound => fault(path, format!("holds no {what} in PEM")),
        _ => fault(path, "is no valid PEM"),
    }
}

fn certificates_in(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let what = "certificate";
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| pem_fault(path, what, &error))?;
    if found.is_empty() {
        return Err(pem_fault(path, what, &PemError::NoItemsFound));
    }
    Ok(found)
}

fn authorities(path: &Path) -> Result<Vec<u8>, ServerError> {
    let pem = contents(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates_in(path, &pem)? {
        roots
            .add(certificate)
            .map_err(|error| fault(path, error.to_string()))?;
    }
    Ok(pem)
}

fn own(cert: &Path, key: &Path) -> Result<ClientTlsConfig, ServerError> {
    let (client_cert, client_key) = (contents(cert)?, contents(key)?);
    let chain = certificates_in(cert, &client_cert)?;
    let private =
        PrivateKeyDer::from_pem_slice(&client_key).map_err(|error| pem_fault(key, "private key", &error))?;
    CertifiedKey::from_der(chain, private, &ring::default_provider())
        .map_err(|error| fault(key, format!("does not fit {}: {error}", cert.display())))?;
    Ok(ClientTlsConfig {
        client_cert,
        client_key,
    })
}

/// The system's authorities, read once in the life of the process. The client library would read them at each connect, on the
/// thread that serves, and give up at the first of them that is broken.
fn system_roots() -> Result<Vec<u8>, ServerError> {
    static ROOTS: OnceLock<Vec<u8>> = OnceLock::new();
    let pem = ROOTS.get_or_init(|| {
        let mut sound = RootCertStore::empty();
        let mut pem = String::new();
        for certificate in rustls_native_certs::load_native_certs().certs {
            let text = base64::engine::general_purpose::STANDARD.encode(&certificate);
            if sound.add(certificate).is_ok() {
                pem.push_str("-----BEGIN CERTIFICATE-----\n");
                pem.push_str(&text);
                pem.push_str("\n-----END CERTIFICATE-----\n");
            }
        }
        pem.into_bytes()
    });
    if pem.is_empty() {
        return Err(ServerError::NoRoots);
    }
    Ok(pem.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Server {
        Server {
            address: Address {
                url: url.to_owned(),
                ..Address::default()
            },
            ..Server::default()
        }
    }

    #[test]
    fn the_systems_authorities_are_taken_where_no_file_is_named() {
        // A machine without any says so.
        match server("rediss://h:1").connection_info() {
            Ok(info) => assert!(matches!(
                info.addr(),
                ConnectionAddr::TcpTls {
                    tls_params: Some(_),
                    ..
                }
            )),
            Err(error) => assert_eq!(error, ServerError::NoRoots),
        }
        assert!(!server("rediss://h:1").is_without_files() && server("h:1").is_without_files());
    }

    #[test]
    fn the_password_is_the_first_line_of_its_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let mut server = server("redis://reader@h:1");
        server.auth_file = Some(file.path().to_owned());
        server.address.auth = "older:one".to_owned();
        let now = |text: &str| {
            std::fs::write(file.path(), text).expect("written");
            let info = server.connection_info().map_err(|error| error.to_string())?;
            let redis = info.redis_settings();
            Ok::<_, String>((
                redis.username().map(str::to_owned),
                redis.password().map(str::to_owned),
            ))
        };
        let both = |user: &str, password: &str| Ok((Some(user.to_owned()), Some(password.to_owned())));
        assert_eq!(now("hunter2\nnot this"), both("reader", "hunter2"));
        assert_eq!(now("app:hun:ter\r\n"), both("app", "hun:ter"));
        let error = now("\nhunter2").expect_err("no password");
        assert!(error.contains("holds no password in its first line"), "{error}");
        assert!(error.contains(&file.path().display().to_string()) && !error.contains("hunter2"));
    }
}
