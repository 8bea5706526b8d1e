//! Asks a server over a connection of its own. Every answer may be missing; all of it is bounded in time.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Value, cmd};

use super::facts::{Answer, Fault};
use super::{Effort, Subject};
use crate::clock::Clock;
use crate::limiter::Micros;
use crate::store::redis::RedisOptions;
use crate::store::redis::connect_error::ConnectError;
use crate::store::redis::link::Link;
use crate::store::redis::server::Server;

/// One answer comes within this time, or it is missing.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How servers are asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way<'a> {
    pub subject: &'a Subject,
    pub effort: Effort,
    pub clock: &'a Clock,
    /// All of it ends at this time.
    pub until: Micros,
}

impl Way<'_> {
    /// The time until which a part of the whole may last that others wait for.
    pub fn ending_within(self, time: Duration) -> Self {
        let time = u64::try_from(time.as_micros()).unwrap_or(Micros::MAX);
        let until = self.until.min(self.clock.now_us().saturating_add(time));
        Self { until, ..self }
    }

    fn left(&self) -> Duration {
        Duration::from_micros(self.until.saturating_sub(self.clock.now_us()))
    }
}

/// A connection, and how it is asked.
pub(super) struct Asker<'a> {
    connection: MultiplexedConnection,
    way: Way<'a>,
    /// Who we say we are.
    pub user: String,
}

impl<'a> Asker<'a> {
    /// Connects as a lane does. `first` is a command that any user may send: a server that asks for a password takes connections
    /// without one, and refuses only commands.
    pub async fn connect(way: Way<'a>, server: &Server, first: &str) -> Answer<Self> {
        let files = server.clone();
        let known = tokio::task::spawn_blocking(move || files.connection_info()).await;
        let info = match known {
            Ok(info) => info.map_err(|error| Fault::new("wrong", &error.to_string()))?,
            Err(error) => return Err(Fault::new("wrong", &error.to_string())),
        };
        let user = info.redis_settings().username().unwrap_or("default").to_owned();
        let wait = way.subject.connect_timeout.min(way.left());
        let opened = tokio::time::timeout(wait, open(server, way.subject)).await;
        let opened = opened.map_err(|_| Fault::timeout())?;
        let connection = opened.map_err(|error| {
            let code = match error {
                ConnectError::Password => "WRONGPASS",
                ConnectError::Network(_) => "unreachable",
                ConnectError::Timeout(_) => "timeout",
                _ => "wrong",
            };
            Fault::new(code, &error.to_string())
        })?;
        let mut asker = Self {
            connection,
            way,
            user,
        };
        match asker.ask::<Value>(&cmd(first)).await {
            Err(fault) if ["NOAUTH", "LOADING", "MASTERDOWN", "timeout"].contains(&fault.code.as_str()) => {
                Err(fault)
            }
            _ => Ok(asker),
        }
    }

    /// Sends a command.
    pub async fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Answer<T> {
        let wait = self.way.left().min(ANSWER_WITHIN);
        match tokio::time::timeout(wait, command.query_async(&mut self.connection)).await {
            Ok(answer) => answer.map_err(|error| Fault::of(&error)),
            Err(_) => Err(Fault::timeout()),
        }
    }

    /// Lets others have their turn, as far as the effort wants that.
    pub async fn pause(&self) {
        let pause = self.way.effort.pause;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    /// Our clock.
    pub fn now_us(&self) -> Micros {
        self.way.clock.now_us()
    }
}

async fn open(server: &Server, subject: &Subject) -> Result<MultiplexedConnection, ConnectError> {
    let options = RedisOptions {
        deployment: subject.deployment.clone(),
        name: "",
        prefix: String::new(),
        threads: 1,
        connections: 1,
        op_timeout: subject.op_timeout,
        connect_timeout: subject.connect_timeout,
    };
    Link::new(&options).open(server).await
}
