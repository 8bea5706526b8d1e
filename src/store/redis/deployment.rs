//! Which servers there are, as the reference server lists them in one text: a server, a primary with its sentinels, a cluster.

use std::path::PathBuf;

use redis::{ConnectionAddr, ConnectionInfo};

use super::address::{Address, AddressError};
use super::server::{Server, ServerError, TlsFiles};

/// How the servers belong together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// One server.
    #[default]
    Single,
    /// A primary and its replicas, watched by sentinels.
    Sentinel,
    /// A cluster.
    Cluster,
}

/// What settings say of the servers.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// How they belong together.
    pub kind: Kind,
    /// Its `url` may be a list, parts separated by commas. `auth` is that of all servers that hold counters.
    pub address: Address,
    /// A file whose first line is such; it wins over `auth`.
    pub auth_file: Option<PathBuf>,
    /// `password` or `user:password` of the sentinels; empty: what their URLs say.
    pub sentinel_auth: String,
    /// The same files for all servers, sentinels too.
    pub tls: TlsFiles,
}

/// Which servers hold the counters.
#[derive(Clone, Debug)]
pub enum Deployment {
    /// One server.
    Single(Server),
    /// A primary that changes.
    Sentinel {
        /// The name that the sentinels have for it.
        master: String,
        /// At least one, each at another address.
        sentinels: Vec<Server>,
        /// It has everything but an address, which the sentinels tell: [`Server::at`].
        primary: Server,
    },
    /// Nodes that share the slots.
    Cluster {
        /// At least one, each at another address, all with the same credentials. Any of them gives the others theirs:
        /// [`Server::at`].
        seeds: Vec<Server>,
    },
}

impl Deployment {
    /// Reads a list. Opens no file.
    ///
    /// # Errors
    /// An address that is none, a list that can't work. No text repeats a part of the list.
    pub fn of(listed: &Listed) -> Result<Self, AddressError> {
        match listed.kind {
            Kind::Single => single(listed),
            Kind::Sentinel => sentinel(listed),
            Kind::Cluster => cluster(listed),
        }
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Single(_) => Kind::Single,
            Self::Sentinel { .. } => Kind::Sentinel,
            Self::Cluster { .. } => Kind::Cluster,
        }
    }

    /// Reads all files, so that what can't work ends the process at its start: later each connection reads them again.
    ///
    /// # Errors
    /// A file that can't be read or does not hold what it should.
    pub fn check(&self) -> Result<(), ServerError> {
        match self {
            Self::Single(server) => server.connection_info().map(drop),
            Self::Sentinel {
                sentinels, primary, ..
            } => {
                // Any address: nothing is connected.
                primary.at("localhost", 0).connection_info()?;
                sentinels.iter().try_for_each(|it| it.connection_info().map(drop))
            }
            Self::Cluster { seeds } => seeds.iter().try_for_each(|it| it.connection_info().map(drop)),
        }
    }
}

impl Listed {
    /// The server at this part of the list.
    fn server(&self, url: &str) -> Server {
        Server {
            address: Address {
                url: url.trim().to_owned(),
                ..self.address.clone()
            },
            auth_file: self.auth_file.clone(),
            tls: self.tls.clone(),
        }
    }
}

fn single(listed: &Listed) -> Result<Deployment, AddressError> {
    let server = listed.server(&listed.address.url);
    let several = server.address.url.contains(',');
    let info = server
        .address
        .parse()
        .map_err(|error| if several { AddressError::List } else { error })?;
    match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } if host.contains(',') => {
            Err(AddressError::List)
        }
        _ => Ok(Deployment::Single(server)),
    }
}

fn sentinel(listed: &Listed) -> Result<Deployment, AddressError> {
    let url = listed.address.url.as_str();
    let (master, rest) = url.split_once(',').unwrap_or((url, ""));
    let master = master.trim();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || ".-_".contains(letter);
    if master.is_empty() || !master.chars().all(plain) {
        return Err(AddressError::Name);
    }
    if rest.trim().is_empty() {
        return Err(AddressError::NoSentinels);
    }
    let (mut sentinels, infos) = servers(listed, rest, 2)?;
    let db = infos[0].redis_settings().db();
    if infos.iter().any(|info| info.redis_settings().db() != db) {
        return Err(AddressError::MixedDb);
    }
    for sentinel in &mut sentinels {
        sentinel.auth_file = None;
        sentinel.address.auth.clone_from(&listed.sentinel_auth);
        // Sentinels have no databases: what their URLs name is the primary's.
        sentinel.address.db = Some(0);
    }
    let mut primary = listed.server("");
    primary.address.tls = sentinels[0].address.tls;
    primary.address.db = Some(db);
    Ok(Deployment::Sentinel {
        master: master.to_owned(),
        sentinels,
        primary,
    })
}

fn cluster(listed: &Listed) -> Result<Deployment, AddressError> {
    let (seeds, infos) = servers(listed, &listed.address.url, 1)?;
    if infos.iter().any(|info| info.redis_settings().db() != 0) {
        return Err(AddressError::ClusterDb);
    }
    let credentials = |info: &ConnectionInfo| {
        let settings = info.redis_settings();
        (
            settings.username().map(str::to_owned),
            settings.password().map(str::to_owned),
        )
    };
    let first = credentials(&infos[0]);
    // A file's credentials win over all of them.
    if listed.auth_file.is_none() && infos.iter().any(|info| credentials(info) != first) {
        return Err(AddressError::MixedAuth);
    }
    Ok(Deployment::Cluster { seeds })
}

/// The servers of a list, at least one, all with TLS or all without, and what their addresses say. `first` is the place of the
/// list's first part, for error texts.
fn servers(
    listed: &Listed,
    list: &str,
    first: usize,
) -> Result<(Vec<Server>, Vec<ConnectionInfo>), AddressError> {
    let mut servers = Vec::new();
    let mut infos: Vec<ConnectionInfo> = Vec::new();
    let mut places = Vec::new();
    for (index, part) in list.split(',').enumerate() {
        let server = listed.server(part);
        let found = place(&server).and_then(|found| {
            if places.contains(&found.1) {
                return Err(AddressError::Twice);
            }
            Ok(found)
        });
        let (info, place) = found.map_err(|error| AddressError::Part {
            place: first + index,
            error: Box::new(error),
        })?;
        servers.push(server);
        infos.push(info);
        places.push(place);
    }
    let tls = servers.iter().any(|server| server.address.is_tls());
    for server in &mut servers {
        if tls && !server.address.is_tls() && server.address.url.contains("://") {
            return Err(AddressError::MixedTls);
        }
        server.address.tls = tls;
    }
    Ok((servers, infos))
}

/// Where a server of a list is, and what its address says.
fn place(server: &Server) -> Result<(ConnectionInfo, (String, u16)), AddressError> {
    if server.address.url.is_empty() {
        return Err(AddressError::Empty);
    }
    let info = server.address.parse()?;
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            let place = (host.to_ascii_lowercase(), *port);
            Ok((info, place))
        }
        _ => Err(AddressError::Socket),
    }
}

#[cfg(test)]
mod tests;
