//! Makes connections and keeps them from being made too often.

use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ConnectionInfo, RedisError, RedisResult};

use super::connect_error::ConnectError;
use super::script::{Dialect, Script};
use super::server::Server;
use super::{Context, RedisOptions};

/// The first pause after a connection was lost or could not be made; doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(400);

/// Makes one connection at a time, by `deadpool`.
#[derive(Debug)]
pub(super) struct Link {
    server: Server,
    config: AsyncConnectionConfig,
    connect_timeout: Duration,
}

impl Link {
    pub fn new(options: &RedisOptions) -> Self {
        // Waiting is bounded by our own deadlines; the library's bounds only end what we have given up already.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.connect_timeout))
            .set_response_timeout(Some(options.connect_timeout.max(options.op_timeout * 4)));
        Self {
            server: options.server.clone(),
            config,
            connect_timeout: options.connect_timeout,
        }
    }

    /// A new connection that knows the script, and whose server's time is known.
    pub async fn connect(&self, context: &Context) -> Result<MultiplexedConnection, ConnectError> {
        let connecting = async {
            let mut connection = self.open().await?;
            let refused = |error: RedisError| ConnectError::of(&error);
            // The short command first: to a client that lacks a password the server says so only if it did not send much.
            see_time(&mut connection, context).await.map_err(refused)?;
            load_scripts(&mut connection).await.map_err(refused)?;
            Ok(connection)
        };
        tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or(Err(ConnectError::Timeout(self.connect_timeout)))
    }

    /// A new connection with the credentials as they are now, hence by a manager of its own. Of its server nothing is known yet.
    pub async fn open(&self) -> Result<MultiplexedConnection, ConnectError> {
        let refused = |error: RedisError| ConnectError::of(&error);
        let info = self.connection_info().await?;
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

    /// Files are read beside the thread's own work.
    async fn connection_info(&self) -> Result<ConnectionInfo, ConnectError> {
        if self.server.is_without_files() {
            return Ok(self.server.connection_info()?);
        }
        let server = self.server.clone();
        match tokio::task::spawn_blocking(move || server.connection_info()).await {
            Ok(info) => Ok(info?),
            Err(error) => Err(ConnectError::Refused(error.to_string())),
        }
    }
}

/// Asks for the server's time and remembers it.
pub(super) async fn see_time(connection: &mut MultiplexedConnection, context: &Context) -> RedisResult<()> {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query_async(connection).await?;
    context
        .time
        .saw(seconds * 1_000_000 + micros, context.clock.now_us());
    Ok(())
}

/// Makes the server know the scripts.
pub(super) async fn load_scripts(connection: &mut MultiplexedConnection) -> RedisResult<()> {
    for script in Script::all() {
        let () = redis::cmd("SCRIPT")
            .arg("LOAD")
            .arg(script.text(Dialect::Plain))
            .query_async(connection)
            .await?;
    }
    Ok(())
}

/// Pauses between attempts: doubled each time, with a random part, so that instances do not come all at once.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    attempts: u32,
}

impl Pauses {
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    pub fn next(&mut self) -> Duration {
        use std::hash::BuildHasher as _;
        let full = PAUSE_MIN
            .saturating_mul(1 << self.attempts.min(10))
            .min(PAUSE_MAX);
        self.attempts = self.attempts.saturating_add(1);
        let random = std::hash::RandomState::new().hash_one(self.attempts) % 512;
        full.mul_f64(0.5)
            + full
                .mul_f64(0.5)
                .mul_f64(f64::from(u32::try_from(random).unwrap_or(0)) / 512.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_bounded() {
        let mut pauses = Pauses::default();
        let first = pauses.next();
        assert!(first >= PAUSE_MIN / 2 && first <= PAUSE_MIN);
        let last = (0..50).map(|_| pauses.next()).last().unwrap_or_default();
        assert!(last >= PAUSE_MAX / 2 && last <= PAUSE_MAX);
        pauses.reset();
        assert!(pauses.next() <= PAUSE_MIN);
    }
}
