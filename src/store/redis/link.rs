//! Makes connections.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, ErrorKind, RedisError, RedisResult, ServerErrorKind};

use super::RedisOptions;
use super::connect_error::ConnectError;
use super::identity::Identity;
use super::script::{Dialect, Script};
use super::server::Server;
use super::time::RedisTime;
use crate::clock::Clock;

/// Makes one connection at a time, by `deadpool`.
#[derive(Clone, Debug)]
pub(super) struct Link {
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
}

/// A connection whose server knows the scripts.
#[derive(Clone, Debug)]
pub(super) struct Connected {
    pub connection: MultiplexedConnection,
    pub dialect: Dialect,
    /// Which of the node's servers it leads to.
    pub epoch: u64,
}

impl Link {
    pub fn new(options: &RedisOptions) -> Self {
        // Waiting is bounded by our own deadlines; the library's bounds only end what we have given up already.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.connect_timeout.max(options.op_timeout * 4)));
        Self {
            config,
            connect_timeout: options.connect_timeout,
        }
    }

    /// The longest time to connect.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// A new connection with the credentials as they are now, hence by a manager of its own. Of its server nothing is known yet.
    pub async fn open(&self, server: &Server) -> Result<MultiplexedConnection, ConnectError> {
        let refused = |error: RedisError| ConnectError::of(&error);
        let info = connection_info(server).await?;
        // A full server refuses the first command and hangs up: the first must not be one whose answer the library skips.
        let settings = info.redis_settings().clone().set_skip_set_lib_name();
        let info = info.set_redis_settings(settings);
        let manager = Manager::new_with_config(info, self.config.clone()).map_err(refused)?;
        let pool = Pool::builder(manager).max_size(1).build();
        let pool = pool.map_err(|error| ConnectError::Refused(error.to_string()))?;
        let pooled = pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => ConnectError::of(&error),
            other => ConnectError::Refused(other.to_string()),
        })?;
        // Taken out for good: a pooled one would be asked for a sign of life with each use.
        Ok(Connection::take(pooled))
    }

    /// The same to a primary that knows the scripts. The server's time is seen, and who it is, where it says that.
    pub async fn open_primary(
        &self,
        server: &Server,
        time: &RedisTime,
        clock: &Clock,
    ) -> Result<(Connected, Option<Identity>), ConnectError> {
        let refused = |error: RedisError| ConnectError::of(&error);
        let mut connection = self.open(server).await?;
        // The short command first: to a client that lacks a password the server says so only if it did not send much.
        see_time(&mut connection, time, clock).await.map_err(refused)?;
        let identity = identify(&mut connection).await.map_err(refused)?;
        if identity.as_ref().is_some_and(|identity| identity.replica) {
            return Err(ConnectError::Replica);
        }
        let dialect = match &identity {
            Some(identity) if !identity.flags => Dialect::Plain,
            _ => Dialect::Flags,
        };
        let dialect = match load_scripts(&mut connection, dialect).await {
            // It does not say what it is, and does not know flags.
            Err(error) if identity.is_none() && !is_lost(&error) => {
                load_scripts(&mut connection, Dialect::Plain)
                    .await
                    .map_err(refused)?;
                Dialect::Plain
            }
            loaded => {
                loaded.map_err(refused)?;
                dialect
            }
        };
        let connected = Connected {
            connection,
            dialect,
            epoch: 0,
        };
        Ok((connected, identity))
    }
}

/// Files are read beside the thread's own work.
async fn connection_info(server: &Server) -> Result<ConnectionInfo, ConnectError> {
    if server.is_without_files() {
        return Ok(server.connection_info()?);
    }
    let server = server.clone();
    match tokio::task::spawn_blocking(move || server.connection_info()).await {
        Ok(info) => Ok(info?),
        Err(error) => Err(ConnectError::Refused(error.to_string())),
    }
}

/// Asks for the server's time and remembers it.
pub(super) async fn see_time(
    connection: &mut MultiplexedConnection,
    time: &RedisTime,
    clock: &Clock,
) -> RedisResult<()> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    time.saw(seconds * 1_000_000 + micros, clock.now_us());
    Ok(())
}

/// Asks a server who it is; `None` if this user may not know.
async fn identify(connection: &mut MultiplexedConnection) -> RedisResult<Option<Identity>> {
    let mut commands = redis::pipe();
    commands.cmd("INFO").arg("server");
    commands.cmd("INFO").arg("replication");
    match commands.query_async::<(String, String)>(connection).await {
        Ok((server, replication)) => Ok(Identity::of(&format!("{server}\n{replication}"))),
        Err(error) if is_lost(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Makes the server know the scripts.
pub(super) async fn load_scripts(
    connection: &mut MultiplexedConnection,
    dialect: Dialect,
) -> RedisResult<()> {
    for script in Script::all() {
        let () = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script.text(dialect))
            .query_async(connection)
            .await?;
    }
    Ok(())
}

/// Whether a connection is of no use after this. A server that follows another one is no primary any more; there may be a new one.
/// All other refusals are of the server and not of the connection: it is as good as a new one.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
        || error.kind() == ErrorKind::Server(ServerErrorKind::MasterDown)
}

/// Whether a server refused because a slot is another's, or on its way to another: it is well, and says nothing about other slots.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    let elsewhere = [
        ServerErrorKind::Moved,
        ServerErrorKind::Ask,
        ServerErrorKind::TryAgain,
    ];
    elsewhere.map(ErrorKind::Server).contains(&error.kind())
}
