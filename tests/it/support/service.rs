//! One instance of the service under test: the binary itself, in a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use tempfile::TempDir;

use super::built;
use super::http::{self, Response};
use super::ports::free_port;
use super::process::Process;

const START_ATTEMPTS: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(20);

/// Names the Redis that all instances use, if set: tests that were written for memory hold there as well.
pub const REDIS: &str = "RATEKEEPER_TEST_REDIS";

/// A running `ratekeeper serve`; killed when dropped.
#[derive(Debug)]
pub struct Service {
    process: Process,
    grpc_port: u16,
    http: SocketAddr,
    /// Where its output goes; removed with it.
    _dir: TempDir,
}

impl Service {
    /// Starts an instance on these policies, with further settings as environment variables, and waits until it is ready.
    pub fn start(policies: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_until(Some(policies), settings, "/readyz")
    }

    /// The same for policies that will not let it become ready: waits until it answers at all.
    pub fn start_unready(policies: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_until(Some(policies), settings, "/livez")
    }

    /// The same with policies from where the settings say.
    pub fn start_without_policies(settings: &[(&str, &str)]) -> Self {
        Self::start_until(None, settings, "/readyz")
    }

    /// The same as [`Service::start`] with the release binary, which is built if need be.
    pub fn start_release(policies: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_program(&built::SERVICE, Some(policies), settings, "/readyz")
    }

    fn start_until(policies: Option<&Path>, settings: &[(&str, &str)], path: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_ratekeeper"));
        Self::start_program(program, policies, settings, path)
    }

    fn start_program(program: &Path, policies: Option<&Path>, settings: &[(&str, &str)], path: &str) -> Self {
        let mut output = String::new();
        for _ in 0..START_ATTEMPTS {
            let mut service = Self::spawn(program, policies, settings);
            let address = service.http;
            let ready = || http::get(address, path, &[]).is_ok_and(|response| response.status == 200);
            match service.process.wait_ready(READY_WITHIN, ready) {
                Ok(()) => {
                    if std::env::var_os(REDIS).is_some() {
                        service.wait_connected();
                    }
                    return service;
                }
                Err(text) => output = text,
            }
        }
        panic!("ratekeeper ended instead of serving:\n{output}");
    }

    fn spawn(program: &Path, policies: Option<&Path>, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let (grpc_port, http_port, debug_port) = (free_port(), free_port(), free_port());
        let mut command = Command::new(program);
        // Nothing of the outer environment may set anything.
        command.env_clear();
        for (name, value) in [
            ("HOST", "127.0.0.1"),
            ("GRPC_HOST", "127.0.0.1"),
            ("DEBUG_HOST", "127.0.0.1"),
        ] {
            command.env(name, value);
        }
        for (name, port) in [
            ("GRPC_PORT", grpc_port),
            ("PORT", http_port),
            ("DEBUG_PORT", debug_port),
        ] {
            command.env(name, port.to_string());
        }
        if let Ok(redis) = std::env::var(REDIS) {
            // Instances on the same policies share their counters; other tests have theirs.
            let prefix = policies
                .map(|path| format!("{}:", path.display()))
                .unwrap_or_default();
            command
                .env("REDIS_URL", redis)
                .env("CACHE_KEY_PREFIX", prefix)
                .env("REDIS_OP_TIMEOUT", "300ms");
        }
        command.envs(settings.iter().copied());
        command.arg("serve");
        if let Some(policies) = policies {
            command.arg("--policies").arg(policies);
        }
        let process = Process::spawn("ratekeeper", dir.path(), &mut command);
        Self {
            process,
            grpc_port,
            http: (Ipv4Addr::LOCALHOST, http_port).into(),
            _dir: dir,
        }
    }

    /// The port of the rate limit service.
    pub fn grpc_port(&self) -> u16 {
        self.grpc_port
    }

    /// The address of the HTTP port.
    pub fn http_address(&self) -> SocketAddr {
        self.http
    }

    /// A request to the HTTP port.
    pub fn get(&self, path: &str) -> Response {
        http::get(self.http, path, &[]).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// A request to `/json`.
    pub fn ask(&self, json: &str) -> Response {
        http::post(self.http, "/json", json).unwrap_or_else(|error| panic!("/json: {error}"))
    }

    /// Waits until all of its connections to Redis are there.
    pub fn wait_connected(&self) {
        super::eventually("redis is connected", READY_WITHIN, || {
            let page = self.get("/metrics").body;
            // One more than threads, for the JSON door.
            let wanted = std::thread::available_parallelism().map_or(1, usize::from) + 1;
            let connections = page
                .lines()
                .filter(|line| line.starts_with("ratekeeper_redis_connections{"))
                .filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok());
            connections.min().is_some_and(|fewest| fewest >= wanted)
        });
    }

    /// How many decisions were made without Redis; 0 for an instance without one.
    pub fn without_store(&self) -> u64 {
        let page = self.get("/metrics").body;
        let counts = page
            .lines()
            .filter(|line| line.starts_with("ratekeeper_decisions_without_store_total{"));
        counts
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// How many bytes of its memory are in use.
    pub fn resident_bytes(&self) -> u64 {
        self.process.resident_bytes()
    }

    /// For how long its threads waited for a core.
    pub fn waited_for_a_core(&self) -> Duration {
        self.process.waited_for_a_core()
    }

    /// The niceness of its thread of this name, while there is one.
    pub fn niceness_of(&self, thread: &str) -> Option<i32> {
        self.process.niceness_of(thread)
    }

    /// All that it has written so far.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// Waits for the end of the process; panics after `within`.
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        self.process.wait_exit(within)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let on_redis = std::env::var_os(REDIS).is_some();
        if on_redis && !std::thread::panicking() && self.process.exit_status().is_none() {
            assert_eq!(self.without_store(), 0, "decisions were made without redis");
        }
    }
}
