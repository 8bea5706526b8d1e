//! Child processes: pinned, bounded in time, ended by their own process id.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::clock::{Clock, nanos};

/// All other variables of this process are kept from children: `REDIS_URL` alone would change what is measured.
const INHERITED: [&str; 5] = ["PATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH"];
/// How often a child is looked at.
const TICK: Duration = Duration::from_millis(5);
/// For one connection or one HTTP answer.
const TRY_FOR: Duration = Duration::from_millis(500);

/// On which core a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Wherever the kernel puts it.
    Anywhere,
    /// On this core alone.
    Core(u16),
}

/// A running child; dropping it ends it.
#[derive(Debug)]
pub struct Child {
    name: String,
    process: std::process::Child,
    output: PathBuf,
}

impl Child {
    /// Starts `words` with these variables. What it prints goes to a file in `dir`.
    ///
    /// `taskset` and `setpriv` replace themselves with the program, so the child's id is the program's; `setpriv`, where
    /// there is one, sees to it that the child ends with this process, however that ends.
    ///
    /// # Errors
    /// A program that can't be started.
    pub fn spawn(
        name: &str,
        dir: &Path,
        place: Place,
        words: &[String],
        env: &[(String, String)],
    ) -> Result<Self, String> {
        let mut line: Vec<String> = Vec::new();
        if has_program("setpriv") {
            line.extend(["setpriv", "--pdeathsig", "KILL"].map(str::to_owned));
        }
        if let Place::Core(core) = place {
            line.extend(["taskset".to_owned(), "-c".to_owned(), core.to_string()]);
        }
        line.extend_from_slice(words);
        let failed = |error: io::Error| format!("{name}: {}: {error}", words.join(" "));
        let [program, arguments @ ..] = line.as_slice() else {
            return Err(format!("{name}: an empty command"));
        };
        let output = dir.join(format!("{name}.log"));
        let log = File::create(&output).map_err(failed)?;
        let process = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            process,
            output,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it accepts connections on the port and, if a path is given, answers 200 to it on the other port.
    ///
    /// # Errors
    /// A child that ended, or that was not ready in time; with the end of what it printed.
    pub fn wait_ready(
        &mut self,
        port: u16,
        page: Option<(u16, &str)>,
        within: Duration,
    ) -> Result<(), String> {
        let clock = Clock::start();
        while clock.now() < nanos(within) {
            if let Ok(Some(status)) = self.process.try_wait() {
                return Err(format!(
                    "{} ended with {status}: {}",
                    self.name,
                    self.last_words()
                ));
            }
            let is_up = connect(port).is_ok();
            if is_up && page.is_none_or(|(port, path)| answers(port, path).unwrap_or(false)) {
                return Ok(());
            }
            thread::sleep(TICK);
        }
        Err(format!(
            "{} was not ready within {within:?}: {}",
            self.name,
            self.last_words()
        ))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// A child that is still there after that time; it is ended then.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, String> {
        let clock = Clock::start();
        while clock.now() < nanos(within) {
            match self.process.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => thread::sleep(TICK),
                Err(error) => return Err(format!("{}: {error}", self.name)),
            }
        }
        self.end();
        Err(format!("{} did not end within {within:?}", self.name))
    }

    /// The end of what it printed.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(3).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
    }

    fn end(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ports for children, none given out twice by this process.
#[derive(Debug, Default)]
pub struct Ports(Mutex<HashSet<u16>>);

impl Ports {
    /// A port that is free at this moment.
    ///
    /// # Errors
    /// A system without free ports.
    pub fn free(&self) -> Result<u16, String> {
        let error = |error: io::Error| format!("no free port: {error}");
        for _ in 0..1_000 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(error)?;
            let port = listener.local_addr().map_err(error)?.port();
            if self.0.lock().is_ok_and(|mut given| given.insert(port)) {
                return Ok(port);
            }
        }
        Err("no free port in 1000 tries".to_owned())
    }
}

/// Whether a program is there: a path, or a name in `PATH`.
pub fn has_program(name: &str) -> bool {
    if name.contains('/') {
        return Path::new(name).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(name).is_file())
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), TRY_FOR)
}

/// Whether `GET path` is answered with 200.
fn answers(port: u16, path: &str) -> io::Result<bool> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(TRY_FOR))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n"
    )?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    Ok(start.ends_with(b" 200"))
}
