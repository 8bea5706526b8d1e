//! A real Redis server as a child process.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use redis::{Client, Connection};
use tempfile::TempDir;

use super::ports::free_port;
use super::process::Process;

/// How long a start may take on a busy machine.
const START_WITHIN: Duration = Duration::from_secs(20);

/// A Redis without persistence on a loopback port and a Unix socket, ended when dropped.
#[derive(Debug)]
pub struct Redis {
    process: Process,
    port: u16,
    arguments: Vec<String>,
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
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let dir = tempfile::tempdir().expect("no temporary directory");
        for _ in 0..10 {
            let port = free_port();
            match spawn(&dir, port, &arguments) {
                Ok(process) => {
                    return Self {
                        process,
                        port,
                        arguments,
                        dir,
                    };
                }
                // Someone else took the port in the meantime.
                Err(output) => assert!(output.contains("in use"), "redis-server ended: {output}"),
            }
        }
        panic!("no free port for redis-server in ten attempts");
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        socket(&self.dir)
    }

    /// A connection that waits at most ten seconds for an answer.
    pub fn connect(&self) -> Connection {
        let client = Client::open(format!("redis://{}", self.address())).expect("not a redis address");
        let connection = client.get_connection().expect("can't connect to redis-server");
        let limit = Some(Duration::from_secs(10));
        connection.set_read_timeout(limit).expect("can't set a timeout");
        connection
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

    /// Starts it again, empty, on the same port. Kills it before if it runs.
    pub fn restart(&mut self) {
        if self.process.exit_status().is_none() {
            self.kill();
        }
        self.process = spawn(&self.dir, self.port, &self.arguments)
            .unwrap_or_else(|output| panic!("redis-server did not start again: {output}"));
    }
}

fn socket(dir: &TempDir) -> PathBuf {
    dir.path().join("redis.sock")
}

/// Starts a server; an `Err` is the output of one that ended.
fn spawn(dir: &TempDir, port: u16, arguments: &[String]) -> Result<Process, String> {
    let mut command = Command::new("redis-server");
    command
        .args(["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"])
        .args(["--port", &port.to_string()])
        .arg("--unixsocket")
        .arg(socket(dir))
        .arg("--dir")
        .arg(dir.path())
        .args(arguments);
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
