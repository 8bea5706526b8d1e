//! Redis over TLS and with passwords from files: who is let in, who is not and why, and what rotates without a restart.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::date_time_ymd;
use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::ports::free_port;
use crate::support::redis::Redis;
use crate::support::service::Service;
use crate::support::{self, eventually};

const WITHIN: Duration = Duration::from_secs(20);
const POLICY: &str =
    "domain: d\ndescriptors:\n  - {key: sliding, rate_limit: {unit: hour, requests_per_unit: 20}}\n";

/// A server that speaks TLS on one port, and to the tests without on another.
struct Secured {
    /// Certificates and policies.
    dir: TempDir,
    redis: Redis,
    port: u16,
}

impl Secured {
    /// With a certificate of `ours`; `clients` is `yes` or `no`: whether they must show one of `ca.crt`.
    fn start(ours: &Authority, host: &str, clients: &str) -> Self {
        let dir = support::policies(&[("d.yaml", POLICY)]);
        ours.write(dir.path(), "ca.crt");
        ours.issue(dir.path(), "server", host);
        Self::start_in(dir, clients)
    }

    /// With `server.crt` of this directory.
    fn start_in(dir: TempDir, clients: &str) -> Self {
        let port = free_port();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let redis = Redis::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &path("server.crt"),
            "--tls-key-file",
            &path("server.key"),
            "--tls-ca-cert-file",
            &path("ca.crt"),
            "--tls-auth-clients",
            clients,
        ]);
        Self { dir, redis, port }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str) -> String {
        self.dir().join(name).to_str().unwrap().to_owned()
    }

    fn url(&self) -> String {
        format!("rediss://localhost:{}", self.port)
    }

    /// An instance that need not come through.
    fn instance(&self, settings: &[(&str, &str)]) -> Service {
        let url = self.url();
        let mut all = vec![("REDIS_URL", url.as_str()), ("REDIS_OP_TIMEOUT", "300ms")];
        all.extend_from_slice(settings);
        Service::start(&self.dir().join("d.yaml"), &all)
    }

    /// An instance that comes through, and decides in Redis.
    fn let_in(&self, settings: &[(&str, &str)]) -> Service {
        let service = self.instance(settings);
        service.wait_connected();
        assert_in_use(&service);
        service
    }

    /// An instance that is ready without Redis, and says why it is without.
    fn kept_out(&self, settings: &[(&str, &str)], reason: &str) {
        let service = self.instance(settings);
        assert_told(&service, reason);
        let page = service.get("/metrics").body;
        assert!(
            page.contains("ratekeeper_redis_connections{node=\"redis\"} 0"),
            "{page}"
        );
        assert_eq!(ask(&service), 200, "decided all the same");
    }

    /// Ends all connections of services, as a restart of the server does.
    fn disconnect(&self) {
        let kill = |kind: &str| redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).to_owned();
        let () = kill("normal").query(&mut self.redis.connect()).unwrap();
    }
}

fn ask(service: &Service) -> u16 {
    let json = r#"{"domain":"d","descriptors":[{"entries":[{"key":"sliding","value":"x"}]}]}"#;
    service.ask(json).status
}

fn assert_in_use(service: &Service) {
    let before = service.without_store();
    assert!(matches!(ask(service), 200 | 429));
    assert_eq!(service.without_store(), before);
}

/// Waits for the reason. It is said once by each connection, and every connection goes on trying.
fn assert_told(service: &Service, reason: &str) {
    let lines = || {
        let output = service.output();
        let told = |line: &&str| line.contains("redis can't be reached") && line.contains(reason);
        output.lines().filter(told).count()
    };
    eventually(reason, WITHIN, || lines() > 0);
    std::thread::sleep(Duration::from_millis(900));
    let lanes = std::thread::available_parallelism().map_or(1, usize::from) + 1;
    assert!(lines() <= lanes, "said for each attempt:\n{}", service.output());
}

#[test]
fn the_url_or_the_setting_asks_for_tls() {
    let server = Secured::start(&Authority::new(), "localhost", "no");
    let ca = server.file("ca.crt");
    let service = server.let_in(&[("REDIS_TLS_CACERT", &ca)]);
    let admitted = (0..30).filter(|_| ask(&service) == 200).count();
    assert_eq!(admitted, 19, "one was asked before");
    let address = format!("localhost:{}", server.port);
    server.let_in(&[
        ("REDIS_URL", &address),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_CACERT", &ca),
    ]);
    // Where no file is named the system's authorities are asked.
    server.let_in(&[("SSL_CERT_FILE", &ca)]);
}

#[test]
fn a_certificate_that_does_not_do_is_refused_with_the_reason() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Secured::start(&ours, "localhost", "no");
    theirs.write(server.dir(), "theirs.crt");
    let theirs = server.file("theirs.crt");
    server.kept_out(
        &[("REDIS_TLS_CACERT", &theirs)],
        "does not come from a trusted authority",
    );
    let skipping = ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true");
    server.kept_out(
        &[("REDIS_TLS_CACERT", &theirs), skipping],
        "does not come from a trusted authority",
    );
    server.kept_out(
        &[("SSL_CERT_FILE", &theirs)],
        "does not come from a trusted authority",
    );
}

#[test]
fn the_name_of_the_host_is_checked_unless_the_settings_say_otherwise() {
    let server = Secured::start(&Authority::new(), "elsewhere.test", "no");
    let ca = ("REDIS_TLS_CACERT", server.file("ca.crt"));
    let ca = (ca.0, ca.1.as_str());
    server.kept_out(&[ca], "is for another host: localhost is not among");
    let skipping = ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true");
    server.let_in(&[ca, skipping]);
    server.let_in(&[("SSL_CERT_FILE", ca.1), skipping]);
}

#[test]
fn an_expired_certificate_is_refused_with_the_reason() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let ours = Authority::new();
    ours.write(dir.path(), "ca.crt");
    ours.issue_with(dir.path(), "server", "localhost", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let server = Secured::start_in(dir, "no");
    let ca = server.file("ca.crt");
    for skip in ["false", "true"] {
        server.kept_out(
            &[
                ("REDIS_TLS_CACERT", &ca),
                ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", skip),
            ],
            "the server's certificate has expired",
        );
    }
}

#[test]
fn a_client_certificate_is_shown_to_a_server_that_asks_for_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = Secured::start(&ours, "localhost", "yes");
    ours.issue(server.dir(), "client", "limiter.test");
    theirs.issue(server.dir(), "stranger", "limiter.test");
    let ca = server.file("ca.crt");
    let with = |name: &str| {
        let [cert, key] = ["crt", "key"].map(|ending| server.file(&format!("{name}.{ending}")));
        [
            ("REDIS_TLS_CACERT", ca.clone()),
            ("REDIS_TLS_CLIENT_CERT", cert),
            ("REDIS_TLS_CLIENT_KEY", key),
        ]
    };
    let client = with("client");
    server.let_in(&client.each_ref().map(|(name, value)| (*name, value.as_str())));
    let stranger = with("stranger");
    server.kept_out(
        &stranger.each_ref().map(|(name, value)| (*name, value.as_str())),
        "UnknownCA",
    );
    server.kept_out(&[("REDIS_TLS_CACERT", &ca)], "CertificateRequired");
}

#[test]
fn certificates_are_read_again_at_the_next_connection() {
    let (old, new) = (Authority::new(), Authority::new());
    let server = Secured::start(&old, "localhost", "no");
    let ca = server.file("ca.crt");
    let service = server.let_in(&[("REDIS_TLS_CACERT", &ca)]);
    new.issue(server.dir(), "next", "localhost");
    let () = redis::cmd("CONFIG")
        .arg(&["SET", "tls-cert-file", &server.file("next.crt")])
        .arg(&["tls-key-file", &server.file("next.key")])
        .query(&mut server.redis.connect())
        .unwrap();
    server.disconnect();
    assert_told(&service, "does not come from a trusted authority");
    // A file that is just being written is one more reason, and no end.
    support::write(Path::new(&ca), "half a certif");
    assert_told(&service, &format!("{ca}: holds no certificate in PEM"));
    new.write(server.dir(), "ca.crt");
    service.wait_connected();
    eventually("redis is asked again", WITHIN, || {
        let before = service.without_store();
        ask(&service);
        service.without_store() == before
    });
    assert!(service.output().contains("redis is back"));
}

#[test]
fn a_password_is_read_again_at_the_next_connection() {
    let server = Secured::start(&Authority::new(), "localhost", "no");
    let user = |rules: &[&str]| {
        let () = redis::cmd("ACL")
            .arg(&["SETUSER", "limiter"])
            .arg(rules)
            .query(&mut server.redis.connect())
            .unwrap();
    };
    user(&["on", ">first-hunter2", "~rk:*", "+@all"]);
    let file = server.file("password");
    support::write(Path::new(&file), "limiter:first-hunter2\n");
    let ca = server.file("ca.crt");
    let settings = [
        ("REDIS_TLS_CACERT", ca.as_str()),
        ("REDIS_AUTH", "default:not-this-hunter2"),
        ("REDIS_AUTH_FILE", &file),
        ("LOG_LEVEL", "trace"),
    ];
    let service = server.let_in(&settings);
    user(&["resetpass", ">second-hunter2"]);
    server.disconnect();
    assert_told(&service, "wrong user or password");
    support::replace(Path::new(&file), "limiter:second-hunter2\n");
    service.wait_connected();
    eventually("redis is asked again", WITHIN, || {
        let before = service.without_store();
        ask(&service);
        service.without_store() == before
    });
    user(&["resetpass", ">third-hunter2"]);
    std::fs::remove_file(&file).unwrap();
    server.disconnect();
    assert_told(&service, &format!("{file}: No such file"));
    let output = service.output();
    assert!(!output.contains("hunter2"), "{output}");
}

#[test]
fn a_password_that_is_wrong_or_missing_is_told() {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let redis = Redis::start_with(&["--requirepass", "hunter2"]);
    let address = redis.address();
    for (auth, reason) in [
        ("", "refused: NOAUTH"),
        ("not-hunter2", "wrong user or password"),
        ("nobody:hunter2", "wrong user or password"),
    ] {
        let service = Service::start(dir.path(), &[("REDIS_URL", &address), ("REDIS_AUTH", auth)]);
        assert_told(&service, reason);
        assert_eq!(ask(&service), 200, "decided all the same");
        assert!(!service.output().contains("hunter2"), "{}", service.output());
    }
}

/// What `serve` says of files that can't be used, and its exit code.
fn refused(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = support::policies(&[("d.yaml", POLICY)]);
    let output = Command::new(env!("CARGO_BIN_EXE_ratekeeper"))
        .env_clear()
        .env("REDIS_URL", "rediss://localhost:1")
        .envs(["GRPC_PORT", "PORT", "DEBUG_PORT"].map(|name| (name, "0")))
        .envs(settings.iter().copied())
        .args(["serve", "--policies"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn files_that_can_not_be_used_end_the_start_and_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let ours = Authority::new();
    ours.write(dir.path(), "ca.crt");
    ours.issue(dir.path(), "client", "limiter.test");
    ours.issue(dir.path(), "other", "limiter.test");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    support::write(&dir.path().join("empty"), "");
    // As a secret looks whose line breaks were lost on the way.
    let one_line = std::fs::read_to_string(path("client.key"))
        .unwrap()
        .replace('\n', " ");
    support::write(&dir.path().join("flat.key"), &one_line);
    let (ca, client) = (path("ca.crt"), path("client.crt"));
    for (authority, key, auth, at, reason) in [
        ("absent", "client.key", "ca.crt", "absent", "No such file"),
        (
            "empty",
            "client.key",
            "ca.crt",
            "empty",
            "holds no certificate in PEM",
        ),
        (
            "client.key",
            "client.key",
            "ca.crt",
            "client.key",
            "holds no certificate in PEM",
        ),
        (
            "ca.crt",
            "ca.crt",
            "ca.crt",
            "ca.crt",
            "holds no private key in PEM",
        ),
        ("ca.crt", "flat.key", "ca.crt", "flat.key", "is no valid PEM"),
        ("ca.crt", "other.key", "ca.crt", "other.key", "does not fit"),
        (
            "ca.crt",
            "client.key",
            "empty",
            "empty",
            "holds no password in its first line",
        ),
        ("ca.crt", "client.key", "absent", "absent", "No such file"),
    ] {
        let (code, output) = refused(&[
            ("REDIS_TLS_CACERT", &path(authority)),
            ("REDIS_TLS_CLIENT_CERT", &client),
            ("REDIS_TLS_CLIENT_KEY", &path(key)),
            ("REDIS_AUTH_FILE", &path(auth)),
        ]);
        assert_eq!(code, Some(2), "{at}: {output}");
        assert!(
            output.contains(&format!("{}: {reason}", path(at))),
            "{at}: {output}"
        );
        let secret = one_line.split(' ').max_by_key(|word| word.len()).unwrap();
        assert!(!output.contains(secret), "{output}");
    }
    for (url, reason) in [
        ("rediss://localhost:1#insecure", "#insecure is not supported"),
        ("/run/redis.sock", "no tls on a unix socket"),
    ] {
        let (code, output) = refused(&[("REDIS_URL", url), ("REDIS_TLS", "1"), ("REDIS_TLS_CACERT", &ca)]);
        assert_eq!(code, Some(2), "{output}");
        assert!(output.contains(reason), "{output}");
    }
}
