//! Where Redis is: the reference server's ways of saying it, and URLs.

use std::path::PathBuf;

use redis::io::tcp::TcpSettings;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo};

/// What settings say of a server.
#[derive(Clone, Default)]
pub struct Address {
    /// `host:port`, a path, `redis://…`, `rediss://…` or `unix://…`.
    pub url: String,
    /// `tcp` or `unix`; empty: what the URL looks like.
    pub socket_type: String,
    /// `password` or `user:password`; empty for none.
    pub auth: String,
    /// Whether to use TLS, also where the URL does not say so.
    pub tls: bool,
    /// A host (IPv6 without brackets) and a port that replace the URL's; with them the URL may be empty.
    pub at: Option<(String, u16)>,
    /// A database that replaces the URL's.
    pub db: Option<i64>,
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address(not shown: it may hold a password)")
    }
}

/// What is wrong with an address. The texts never repeat it: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no host, or no port that is a number.
    #[error("redis url: neither host:port, a path, redis://, rediss:// nor unix://")]
    Malformed,
    /// TLS is asked for on a unix socket.
    #[error("redis url: no tls on a unix socket")]
    Tls,
    /// The URL asks for certificates not to be checked.
    #[error("redis url: #insecure is not supported, name the authority of the certificate instead")]
    Insecure,
    /// The client library does not take the URL.
    #[error("redis url: {0}")]
    Url(String),
    /// A socket type that is neither `tcp` nor `unix`.
    #[error("redis socket type {0:?}: tcp and unix are allowed")]
    SocketType(String),
    /// A list, or half of one, where one server is meant.
    #[error("redis url: not one address; a list needs redis.type (REDIS_TYPE) sentinel or cluster")]
    List,
    /// One address of several is wrong.
    #[error("{error}, at part {place} of the list")]
    Part {
        /// Which one, counted from 1.
        place: usize,
        /// What is wrong with it.
        error: Box<AddressError>,
    },
    /// Two commas in a row, or one at the end.
    #[error("redis url: an empty part")]
    Empty,
    /// The same host and port as a part before.
    #[error("redis url: the same host and port twice")]
    Twice,
    /// A sentinel or a node of a cluster can't be reached by a socket: others have to reach it, too.
    #[error("redis url: neither sentinels nor nodes of a cluster are reached by a unix socket")]
    Socket,
    /// No name of a primary before the sentinels.
    #[error(
        "redis url: want the primary's name and then its sentinels, as in name,host:port,host:port; a name has letters, digits and .-_"
    )]
    Name,
    /// A name alone.
    #[error("redis url: no sentinels behind the primary's name, want name,host:port,host:port")]
    NoSentinels,
    /// `redis://` beside `rediss://`.
    #[error("redis url: redis:// beside rediss://, want tls for all or for none")]
    MixedTls,
    /// Nodes whose own addresses are not the list's have to be let in, too.
    #[error("redis url: nodes of a cluster with different users or passwords, want the same for all")]
    MixedAuth,
    /// Sentinels that name different databases.
    #[error("redis url: sentinels with different databases, want the primary's in each")]
    MixedDb,
    /// A cluster's only database is 0.
    #[error("redis url: a cluster has no database but 0")]
    ClusterDb,
}

impl Address {
    /// The connection that the settings describe.
    ///
    /// # Errors
    /// Anything that can't be an address.
    pub fn parse(&self) -> Result<ConnectionInfo, AddressError> {
        let url = self.url.trim();
        let info = if url.contains("://") {
            url.into_connection_info()
                .map_err(|error| AddressError::Url(error.kind_text()))?
        } else {
            let addr = match self.socket_type.as_str() {
                _ if self.at.is_some() => ConnectionAddr::Tcp(String::new(), 0),
                "unix" => ConnectionAddr::Unix(PathBuf::from(url)),
                "" if url.starts_with('/') => ConnectionAddr::Unix(PathBuf::from(url)),
                "" | "tcp" => tcp(url)?,
                other => return Err(AddressError::SocketType(other.to_owned())),
            };
            addr.into_connection_info()
                .map_err(|error| AddressError::Url(error.kind_text()))?
        };
        let addr = self.encrypted(self.moved(info.addr().clone()))?;
        let mut settings = self.authenticated(info.redis_settings().clone());
        if let Some(db) = self.db {
            settings = settings.set_db(db);
        }
        let nodelay = TcpSettings::default().set_nodelay(true);
        let info = info.set_addr(addr).set_redis_settings(settings);
        Ok(info.set_tcp_settings(nodelay))
    }

    /// Whether TLS is asked for.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.tls || self.url.trim().starts_with("rediss://") || self.url.trim().starts_with("valkeys://")
    }

    fn moved(&self, addr: ConnectionAddr) -> ConnectionAddr {
        let Some((host, port)) = self.at.clone() else {
            return addr;
        };
        match addr {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure,
                tls_params,
            },
            _ => ConnectionAddr::Tcp(host, port),
        }
    }

    /// With TLS if that is asked for; certificates are added later.
    fn encrypted(&self, addr: ConnectionAddr) -> Result<ConnectionAddr, AddressError> {
        match addr {
            ConnectionAddr::Tcp(host, port) if self.tls => Ok(ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }),
            ConnectionAddr::TcpTls { insecure: true, .. } => Err(AddressError::Insecure),
            ConnectionAddr::Unix(_) if self.tls => Err(AddressError::Tls),
            other => Ok(other),
        }
    }

    fn authenticated(&self, settings: RedisConnectionInfo) -> RedisConnectionInfo {
        let settings = settings.set_lib_name("ratekeeper", env!("CARGO_PKG_VERSION"));
        match self.auth.split_once(':') {
            _ if self.auth.is_empty() => settings,
            Some((user, password)) => settings.set_username(user).set_password(password),
            None => settings.set_password(&self.auth),
        }
    }
}

fn tcp(text: &str) -> Result<ConnectionAddr, AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or(AddressError::Malformed)?;
    let port = port.parse().map_err(|_| AddressError::Malformed)?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    if host.is_empty() {
        return Err(AddressError::Malformed);
    }
    Ok(ConnectionAddr::Tcp(host.to_owned(), port))
}

/// An error's kind without the text it is about.
trait KindText {
    fn kind_text(&self) -> String;
}

impl KindText for redis::RedisError {
    fn kind_text(&self) -> String {
        self.category().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, socket_type: &str, auth: &str) -> Result<ConnectionInfo, AddressError> {
        Address {
            url: url.to_owned(),
            socket_type: socket_type.to_owned(),
            auth: auth.to_owned(),
            ..Address::default()
        }
        .parse()
    }

    #[test]
    fn all_ways_of_saying_it_are_read() {
        for (url, socket_type, expected) in [
            ("localhost:6379", "tcp", "localhost:6379"),
            ("10.0.0.1:7000", "", "10.0.0.1:7000"),
            ("[::1]:6379", "tcp", "::1:6379"),
            ("/var/run/redis.sock", "unix", "/var/run/redis.sock"),
            ("/var/run/redis.sock", "", "/var/run/redis.sock"),
            ("redis://cache:6380/2", "tcp", "cache:6380"),
            ("redis://cache", "unix", "cache:6379"),
            ("unix:///run/r.sock", "", "/run/r.sock"),
        ] {
            let info = parse(url, socket_type, "").unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(info.addr().to_string(), expected, "{url}");
        }
        assert_eq!(
            parse("redis://cache:6380/2", "", "").map(|info| info.redis_settings().db()),
            Ok(2)
        );
    }

    #[test]
    fn tls_comes_by_url_or_by_name() {
        for (url, tls, expected) in [
            ("rediss://h:1", false, Ok(true)),
            ("rediss://h:1", true, Ok(true)),
            ("redis://h:1", true, Ok(true)),
            ("h:1", true, Ok(true)),
            ("h:1", false, Ok(false)),
            ("/run/r.sock", true, Err(AddressError::Tls)),
            ("unix:///run/r.sock", true, Err(AddressError::Tls)),
            ("rediss://h:1#insecure", false, Err(AddressError::Insecure)),
        ] {
            let address = Address {
                url: url.to_owned(),
                tls,
                ..Address::default()
            };
            let is_tls = |info: ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
            let parsed = address.parse().map(is_tls);
            assert_eq!(parsed, expected, "{url}");
            assert!(parsed != Ok(!address.is_tls()), "{url}");
        }
    }

    #[test]
    fn passwords_come_alone_or_with_a_user() {
        let settings = |auth: &str| parse("h:1", "tcp", auth).map(|info| info.redis_settings().clone());
        let with = settings("app:s:e:c").expect("an address");
        assert_eq!((with.username(), with.password()), (Some("app"), Some("s:e:c")));
        let alone = settings("secret").expect("an address");
        assert_eq!((alone.username(), alone.password()), (None, Some("secret")));
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for url in [
            "",
            "host",
            "host:",
            ":6379",
            "host:port",
            "redis://user:hunter2@:x",
            "rediss://h:1#insecure",
        ] {
            let error = parse(url, "", "")
                .map(|info| info.addr().to_string())
                .expect_err(url);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(parse("h:1", "udp", "").is_err());
        assert!(
            !format!(
                "{:?}",
                Address {
                    auth: "hunter2".to_owned(),
                    ..Address::default()
                }
            )
            .contains("hunter2")
        );
    }
}
