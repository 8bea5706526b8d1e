//! One Redis, and what can happen to it.

use std::thread::JoinHandle;
use std::time::Duration;

use super::fault::{Fault, Site};
use crate::support::ports::free_port;
use crate::support::proxy::{Mode, Proxy};
use crate::support::redis::Redis;

/// Runs for 2 s. Where the time stands still in a script, it ends after some 2 s by its count.
const BUSY: &str = "
    local function now() local t = redis.call('TIME') return t[1] + t[2] / 1e6 end
    local rounds, till = 0, now() + 2
    while now() < till and rounds < 3e6 do rounds = rounds + 1 end
    return rounds";

/// A Redis, and for faults of the network a proxy before it.
#[derive(Debug)]
pub struct Single {
    redis: Redis,
    proxy: Option<Proxy>,
    /// Under way at Redis.
    command: Option<JoinHandle<()>>,
}

impl Single {
    fn direct() -> Self {
        Self {
            redis: Redis::start_with(&["--maxmemory-policy", "noeviction"]),
            proxy: None,
            command: None,
        }
    }

    fn proxied() -> Self {
        let site = Self::direct();
        Self {
            proxy: Some(Proxy::start(site.redis.port())),
            ..site
        }
    }

    fn set(&self, mode: Mode) {
        self.proxy.as_ref().expect("it has a proxy").set(mode);
    }

    /// Sends a script that runs for 2 s, on a connection of its own.
    fn keep_busy(&mut self) {
        let mut connection = self.redis.connect();
        self.command = Some(std::thread::spawn(move || {
            let () = redis::cmd("EVAL")
                .arg(BUSY)
                .arg(0)
                .query(&mut connection)
                .unwrap();
        }));
    }

    fn wait_for_command(&mut self) {
        let command = self.command.take().expect("one is under way");
        command.join().expect("it was refused");
    }
}

impl Site for Single {
    fn settings(&self) -> Vec<(&'static str, String)> {
        let direct = || self.redis.address();
        let address = self.proxy.as_ref().map_or_else(direct, Proxy::address);
        vec![("REDIS_URL", address), ("REDIS_SOCKET_TYPE", "tcp".to_owned())]
    }
}

/// All of them.
pub fn faults() -> Vec<Fault<Single>> {
    let fault = |name| Fault::new(name, Single::direct as fn() -> Single);
    let of_network = |name| Fault::new(name, Single::proxied as fn() -> Single);
    vec![
        fault("none"),
        fault("killed and started again")
            .begin(|site| site.redis.kill())
            .end(|site| site.redis.restart())
            .losses(1),
        fault("frozen")
            .begin(|site| site.redis.freeze())
            .end(|site| site.redis.thaw()),
        of_network("packets swallowed, connections dead")
            .begin(|site| site.set(Mode::Swallow))
            .end(|site| site.set(Mode::Pass)),
        of_network("packets held, then sent again")
            .begin(|site| site.set(Mode::Hold))
            .end(|site| site.set(Mode::Pass)),
        of_network("connections refused")
            .begin(|site| site.set(Mode::Refuse))
            .end(|site| site.set(Mode::Pass)),
        of_network("every answer 50 ms late")
            .begin(|site| site.set(Mode::Delay(Duration::from_millis(50))))
            .end(|site| site.set(Mode::Pass)),
        fault("SCRIPT FLUSH every 0.1 s").every_ms(100, |site| site.redis.command("SCRIPT FLUSH")),
        fault("CLIENT KILL every 0.2 s").every_ms(200, |site| {
            let _: u64 = site.redis.command("CLIENT KILL TYPE normal");
        }),
        fault("memory full")
            .begin(|site| site.redis.command("CONFIG SET maxmemory 100kb"))
            .end(|site| site.redis.command("CONFIG SET maxmemory 0")),
        fault("made a replica, read-only")
            .begin(|site| {
                site.redis
                    .command(&format!("REPLICAOF 127.0.0.1 {}", free_port()))
            })
            .end(|site| site.redis.command("REPLICAOF NO ONE")),
        fault("busy for 2 s")
            .begin(Single::keep_busy)
            .end(Single::wait_for_command)
            .ends_itself(),
    ]
}
