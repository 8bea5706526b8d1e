//! TLS on the gRPC port: certificates checked both ways, and read again without a restart.

use std::path::Path;
use std::sync::Arc;

use ratekeeper::wire::tls::{Tls, TlsFiles};
use rcgen::KeyPair;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::support::authority::Authority;

fn client(dir: &Path, authority: &str, own: Option<&str>) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(dir.join(authority)).unwrap())
        .unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(dir.join(format!("{name}.crt"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(dir.join(format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// One handshake; whether both sides were content.
async fn handshake(server: &Tls, client: &TlsConnector) -> bool {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let name = ServerName::try_from("ratelimit.test").unwrap();
    let connecting = async {
        client
            .connect(name, TcpStream::connect(address).await.unwrap())
            .await
    };
    let accepting = async { server.accept(listener.accept().await.unwrap().0).await };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    connected.is_ok() && accepted.is_ok_and(|stream| stream.get_ref().1.alpn_protocol() == Some(b"h2"))
}

fn files(dir: &Path, client_ca: bool, client_san: Option<&str>) -> TlsFiles {
    TlsFiles {
        cert: dir.join("server.crt"),
        key: dir.join("server.key"),
        client_ca: client_ca.then(|| dir.join("ca.crt")),
        client_san: client_san.map(str::to_owned),
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

#[test]
fn clients_are_checked_as_the_settings_say() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    ours.write(dir.path(), "ca.crt");
    ours.issue(dir.path(), "server", "ratelimit.test");
    ours.issue(dir.path(), "envoy", "envoy.test");
    ours.issue(dir.path(), "other", "other.test");
    theirs.issue(dir.path(), "stranger", "envoy.test");
    let client_with = |own| client(dir.path(), "ca.crt", own);
    run(async {
        let open = Tls::new(files(dir.path(), false, None)).unwrap();
        assert!(handshake(&open, &client_with(None)).await);
        let mutual = Tls::new(files(dir.path(), true, None)).unwrap();
        assert!(!handshake(&mutual, &client_with(None)).await);
        assert!(!handshake(&mutual, &client_with(Some("stranger"))).await);
        assert!(handshake(&mutual, &client_with(Some("other"))).await);
        let named = Tls::new(files(dir.path(), true, Some("envoy.test"))).unwrap();
        assert!(handshake(&named, &client_with(Some("envoy"))).await);
        assert!(!handshake(&named, &client_with(Some("other"))).await);
    });
    let unchecked = Tls::new(files(dir.path(), false, Some("envoy.test"))).unwrap_err();
    assert!(unchecked.to_string().contains("needs a client ca"), "{unchecked}");
}

#[test]
fn new_certificates_are_taken_and_broken_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new(), Authority::new());
    old.write(dir.path(), "old.crt");
    new.write(dir.path(), "new.crt");
    old.issue(dir.path(), "server", "ratelimit.test");
    let server = Tls::new(files(dir.path(), false, None)).unwrap();
    run(async {
        let (by_old, by_new) = (
            client(dir.path(), "old.crt", None),
            client(dir.path(), "new.crt", None),
        );
        assert!(handshake(&server, &by_old).await && !handshake(&server, &by_new).await);
        std::fs::write(dir.path().join("server.crt"), "half a certif").unwrap();
        let error = server.reload().unwrap_err().to_string();
        assert!(error.contains("server.crt"), "{error}");
        assert!(
            handshake(&server, &by_old).await,
            "the last good one stays in force"
        );
        new.issue(dir.path(), "server", "ratelimit.test");
        assert!(server.reload().unwrap());
        assert!(!server.reload().unwrap(), "what did not change is not read again");
        assert!(handshake(&server, &by_new).await && !handshake(&server, &by_old).await);
    });
}

#[test]
fn a_key_that_does_not_fit_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    authority.issue(dir.path(), "server", "ratelimit.test");
    let other = KeyPair::generate().unwrap();
    std::fs::write(dir.path().join("server.key"), other.serialize_pem()).unwrap();
    assert!(Tls::new(files(dir.path(), false, None)).is_err());
}
