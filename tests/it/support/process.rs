//! A child process that ends with the test, whatever happens to the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Killed, by its own handle, when dropped. If the test is failing then, the end of its output is printed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts the command with its output in `<dir>/<name>.log`.
    pub fn spawn(name: &str, dir: &Path, command: &mut Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log).expect("can't create a log file");
        let copy = file.try_clone().expect("can't share a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn()
            .unwrap_or_else(|error| panic!("can't start {command:?}: {error}"));
        Self {
            child,
            name: name.to_owned(),
            log,
        }
    }

    /// All that the process has written so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until `ready`. An `Err` is the output of a process that ended instead; panics after `within`.
    pub fn wait_ready(&mut self, within: Duration, mut ready: impl FnMut() -> bool) -> Result<(), String> {
        let start = Instant::now();
        // The exit is looked at first: someone else's process on the same port would answer for a dead child.
        while self.exit_status().is_none() {
            if ready() {
                return Ok(());
            }
            assert!(
                start.elapsed() < within,
                "{} is not ready after {within:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.output())
    }

    /// How the process ended, if it did.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("can't ask for the state of a child")
    }

    /// How many bytes of its memory are in use.
    pub fn resident_bytes(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.expect("no VmRSS in its status") * 1_024
    }

    /// For how long its threads were ready to run and waited for a core, all together and since their start. More than a
    /// little means that others kept the machine busy.
    pub fn waited_for_a_core(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let waited_ns = |thread: std::io::Result<fs::DirEntry>| {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').nth(1)?.parse::<u64>().ok()
        };
        let total = threads.into_iter().flatten().filter_map(waited_ns).sum();
        Duration::from_nanos(total)
    }

    /// The niceness of its thread of this name, while there is one.
    pub fn niceness_of(&self, thread: &str) -> Option<i32> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        tasks.flatten().find_map(|task| {
            let line = fs::read_to_string(task.path().join("stat")).ok()?;
            let (start, rest) = line.rsplit_once(')')?;
            let is_it = start.split_once('(')?.1 == thread;
            // The 19th field of the line; the first of the rest is the third.
            is_it.then(|| rest.split_whitespace().nth(16)?.parse().ok())?
        })
    }

    /// Sends SIGTERM to this process.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal, by its name without `SIG`, to this process. The standard library only knows SIGKILL, and `unsafe` is
    /// forbidden, so the shell's own `kill` does it. The process can't have been reaped: only this type waits for it.
    pub fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh")
            .args(["-c", &command])
            .status()
            .expect("can't start sh");
        assert!(status.success(), "{command}: {status}");
    }

    /// Waits for the end; panics after `within`.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(
                start.elapsed() < within,
                "{} still runs after {within:?}",
                self.name
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let tail = lines[lines.len().saturating_sub(40)..].join("\n");
            eprintln!("--- the end of what {} wrote ---\n{tail}\n---", self.name);
        }
    }
}
