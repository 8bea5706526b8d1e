//! A real Redis server, or one of its kin, as a child process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use redis::{Client, Connection};
use tempfile::TempDir;

use super::ports::free_port;
use super::process::Process;

/// How long a start may take on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(20);

/// How long a short command may take before its server counts as frozen.
const COMMAND_WITHIN: Duration = Duration::from_millis(500);

/// Which server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The `redis-server` of this machine: 7.0 or later.
    #[default]
    Installed,
    /// Redis 6.2.
    Redis62,
    /// Valkey 9.1.
    Valkey,
}

impl Kind {
    /// Its program; panics if it is not installed.
    pub fn program(self) -> PathBuf {
        let name = match self {
            Self::Installed => return PathBuf::from("redis-server"),
            Self::Redis62 => "redis-server",
            Self::Valkey => "valkey-server",
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/servers-venv/bin");
        let path = folder.join(name);
        assert!(
            path.exists(),
            "{} is missing; `make test-tools` installs it",
            path.display()
        );
        path
    }
}

/// A server in the making.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which program.
    pub kind: Kind,
    /// More settings, as on the command line.
    pub arguments: Vec<String>,
    /// Its port + 10,000 must be free as well, for a cluster.
    pub with_bus: bool,
    /// Runs as a sentinel with this configuration, which it rewrites.
    pub sentinel: Option<String>,
}

impl Options {
    /// Adds settings, as on the command line.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Others come to it by TLS, with `server.crt`, `server.key` and `ca.crt` of this folder. The tests still come without.
    pub fn with_tls(self, folder: &Path) -> Self {
        let port = if self.with_bus {
            port_with_bus()
        } else {
            free_port()
        };
        let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
        self.with(&[
            "--tls-cert-file",
            &file("server.crt"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.crt"),
            "--tls-auth-clients",
            "no",
            "--tls-replication",
            "yes",
            "--tls-cluster",
            "yes",
            TLS_PORT,
            &port.to_string(),
        ])
    }

    /// Starts a server and waits until it answers.
    pub fn start(self) -> Redis {
        let dir = tempfile::tempdir().expect("no temporary directory");
        for _ in 0..10 {
            let port = if self.with_bus {
                port_with_bus()
            } else {
                free_port()
            };
            if let Some(text) = &self.sentinel {
                super::write(&dir.path().join(SENTINEL_CONF), text);
            }
            match spawn(&dir, port, &self) {
                Ok(process) => {
                    return Redis {
                        process,
                        port,
                        options: self,
                        dir,
                    };
                }
                // Someone else took the port in the meantime.
                Err(output) => assert!(output.contains("in use"), "redis-server ended: {output}"),
            }
        }
        panic!("no free port for redis-server in ten attempts");
    }
}

const TLS_PORT: &str = "--tls-port";
const SENTINEL_CONF: &str = "sentinel.conf";

/// How far above its port a cluster's node listens to the others.
const BUS: u16 = 10_000;

/// A port that is free, and so is the one of the cluster's bus.
fn port_with_bus() -> u16 {
    let free = |port: u16| std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, port)).is_ok();
    std::iter::repeat_with(free_port)
        .take(30_000)
        // Below the ports that Linux gives to outgoing connections, as the port itself.
        .find(|port| port + BUS < 32_000 && free(port + BUS))
        .expect("no free pair of ports")
}

/// A server without persistence on a loopback port and a Unix socket, ended when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    options: Options,
    dir: TempDir,
}

impl Redis {
    /// Starts a server and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more settings, as on the command line: `&["--requirepass", "secret"]`. With a password it is ready when it
    /// asks for that.
    pub fn start_with(arguments: &[&str]) -> Self {
        Options::default().with(arguments).start()
    }

    /// The same of another kind.
    pub fn start_kind(kind: Kind, arguments: &[&str]) -> Self {
        let options = Options {
            kind,
            ..Options::default()
        };
        options.with(arguments).start()
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port that others come to: the one for TLS if there is one.
    pub fn port_of_others(&self) -> u16 {
        let port = self.argument(TLS_PORT);
        port.map_or(self.port, |port| port.parse().expect("a port"))
    }

    /// `127.0.0.1:<port>` of that port.
    pub fn address_of_others(&self) -> String {
        format!("127.0.0.1:{}", self.port_of_others())
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// A connection that waits at most ten seconds for an answer.
    pub fn connect(&self) -> Connection {
        let client = Client::open(format!("redis://{}", self.address())).expect("not a redis address");
        let connection = client
            .get_connection_with_timeout(Duration::from_secs(10))
            .expect("can't connect to redis-server");
        let limit = Some(Duration::from_secs(10));
        connection.set_read_timeout(limit).expect("can't set a timeout");
        connection
    }

    /// Sends a command, its words separated by blanks, on a connection of its own; panics if it is refused.
    pub fn command<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let answer = self.try_command(words);
        answer.unwrap_or_else(|error| panic!("{}: {words}: {error}", self.address()))
    }

    /// The same with the error. A member that is frozen or gone is one, after half a second.
    pub fn try_command<T: redis::FromRedisValue>(&self, words: &str) -> redis::RedisResult<T> {
        let client = Client::open(format!("redis://{}", self.address()))?;
        let mut connection = client.get_connection_with_timeout(COMMAND_WITHIN)?;
        connection.set_read_timeout(Some(COMMAND_WITHIN))?;
        if let Some(password) = self.password() {
            let () = redis::cmd("AUTH").arg(password).query(&mut connection)?;
        }
        let mut command = redis::Cmd::new();
        words.split(' ').for_each(|word| {
            command.arg(word);
        });
        command.query(&mut connection)
    }

    /// A field of `INFO`, empty if there is none; none if it does not answer.
    pub fn info(&self, field: &str) -> Option<String> {
        let page: String = self.try_command("INFO").ok()?;
        let prefix = format!("{field}:");
        let value = page.lines().find_map(|line| line.strip_prefix(&prefix));
        Some(value.unwrap_or_default().trim().to_owned())
    }

    /// The password that it was started with.
    fn password(&self) -> Option<&str> {
        self.argument("--requirepass")
    }

    /// What stands behind this argument.
    fn argument(&self, name: &str) -> Option<&str> {
        let arguments = &self.options.arguments;
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(String::as_str)
    }

    /// Stops it in its tracks: connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on after a freeze.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Ends it at once, as a crash does, and loses all keys.
    pub fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.wait_exit(START_WITHIN);
    }

    /// Whether it was killed and not started again.
    pub fn is_dead(&mut self) -> bool {
        self.process.exit_status().is_some()
    }

    /// Starts it again, empty, on the same port. Kills it before if it runs. A sentinel and a cluster's node know the others again.
    pub fn restart(&mut self) {
        if self.process.exit_status().is_none() {
            self.kill();
        }
        self.process = spawn(&self.dir, self.port, &self.options)
            .unwrap_or_else(|output| panic!("redis-server did not start again: {output}"));
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("redis.sock")
}

/// Starts a server; an `Err` is the output of one that ended.
fn spawn(dir: &TempDir, port: u16, options: &Options) -> Result<Process, String> {
    let mut command = Command::new(options.kind.program());
    if options.sentinel.is_some() {
        command.arg(dir.path().join(SENTINEL_CONF));
    } else {
        command.args(["--save", "", "--appendonly", "no"]);
        command.arg("--unixsocket").arg(socket(dir));
    }
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .arg("--dir")
        .arg(dir.path())
        .args(&options.arguments);
    if options.sentinel.is_some() {
        command.arg("--sentinel");
    }
    let mut process = Process::spawn("redis-server", dir.path(), &mut command);
    process.wait_ready(START_WITHIN, || answers(port))?;
    Ok(process)
}

fn answers(port: u16) -> bool {
    let Ok(client) = Client::open(format!("redis://127.0.0.1:{port}")) else {
        return false;
    };
    let Ok(mut connection) = client.get_connection_with_timeout(Duration::from_secs(1)) else {
        return false;
    };
    match redis::cmd("PING").query::<String>(&mut connection) {
        Ok(pong) => pong == "PONG",
        Err(error) => error.code() == Some("NOAUTH"),
    }
}
