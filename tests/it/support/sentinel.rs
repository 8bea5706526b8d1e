//! A primary with replicas, and the sentinels that watch over them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::eventually;
use super::redis::{Kind, Options, Redis};

/// What the sentinels call the primary.
pub const NAME: &str = "mymaster";

/// A sentinel connects to a new primary only up to a second after it has named it, and until then hears nothing from it. With
/// less than that it would take the new one for dead, now and then, and fail over again.
const DOWN_AFTER_MS: u32 = 1_500;

/// What a sentinel says of a member.
type Fields = HashMap<String, String>;

const REPLICAS: usize = 2;
const SENTINELS: usize = 3;
/// Sentinels greet each other every 2 s, and look at replicas every 10.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

/// What can be chosen.
#[derive(Clone, Debug, Default)]
pub struct Setting {
    /// Which servers.
    pub kind: Kind,
    /// Of the primary and its replicas, if any.
    pub password: Option<String>,
    /// Of the sentinels, if any.
    pub sentinel_password: Option<String>,
    /// All of them speak TLS with each other, with the certificates of this folder: see [`Options::with_tls`].
    pub tls: Option<PathBuf>,
}

/// One primary, two replicas, three sentinels of which two must agree. A primary counts as down after a second and a half.
#[derive(Debug)]
pub struct Sentinels {
    /// The primary and the replicas. The first one is the primary at first.
    pub members: Vec<Redis>,
    /// Who watches them.
    pub sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts all of them and waits until they know each other.
    pub fn start() -> Self {
        Self::start_with(&Setting::default())
    }

    /// The same with passwords, or of another kind.
    pub fn start_with(setting: &Setting) -> Self {
        let primary = member(setting, None);
        let port = primary.port_of_others();
        let mut members = vec![primary];
        members.extend((0..REPLICAS).map(|_| member(setting, Some(port))));
        for replica in &members[1..] {
            wait_replicating(replica);
        }
        let sentinels = (0..SENTINELS).map(|_| sentinel(setting, port)).collect();
        let all = Self { members, sentinels };
        all.wait_settled();
        all
    }

    /// What `REDIS_URL` wants: the name and the sentinels.
    pub fn url(&self) -> String {
        let addresses = self.sentinels.iter().map(Redis::address_of_others);
        std::iter::once(NAME.to_owned())
            .chain(addresses)
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Which member the sentinels say is the primary: the one that most of those name that answer.
    pub fn primary(&self) -> usize {
        let named: Vec<usize> = self
            .sentinels
            .iter()
            .filter_map(|sentinel| self.named_by(sentinel))
            .collect();
        let votes = |member: &usize| named.iter().filter(|other| *other == member).count();
        let most = named.iter().copied().max_by_key(votes);
        most.expect("no sentinel names a member")
    }

    /// Which member this sentinel says is the primary; none if it does not answer.
    pub fn named_by(&self, sentinel: &Redis) -> Option<usize> {
        let command = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}");
        let (_, port): (String, u16) = sentinel.try_command(&command).ok()?;
        self.members
            .iter()
            .position(|member| [member.port(), member.port_of_others()].contains(&port))
    }

    /// Has a replica made the primary while the old one still lives, as an operator would.
    pub fn failover(&self) {
        let command = format!("SENTINEL FAILOVER {NAME}");
        let () = self.sentinels[0].command(&command);
    }

    /// Waits until any sentinel names a primary other than `old`; which one, and how long that took.
    pub fn wait_other_primary(&self, old: usize, within: Duration) -> (usize, Duration) {
        let mut new = old;
        let took = eventually("a sentinel names another primary", within, || {
            let mut named = self
                .sentinels
                .iter()
                .filter_map(|sentinel| self.named_by(sentinel));
            new = named.find(|member| *member != old).unwrap_or(old);
            new != old
        });
        (new, took)
    }

    /// Waits until all sentinels name the same primary, which says that it is, both others are in step with it, and each sentinel
    /// has seen that they are replicas. One that last saw a member as a primary makes it a replica again whatever it has become
    /// since, and so undoes a failover to it.
    pub fn wait_settled(&self) {
        eventually("the sentinels have settled", SETTLED_WITHIN, || {
            self.sentinels.iter().all(|sentinel| self.is_settled(sentinel))
        });
        let primary = self.primary();
        eventually("the replicas are in step", SETTLED_WITHIN, || {
            let role = |member: &Redis| member.info("role");
            let replicas = self
                .members
                .iter()
                .enumerate()
                .filter(|(index, _)| *index != primary);
            role(&self.members[primary]).as_deref() == Some("master")
                && replicas
                    .map(|(_, member)| member.info("master_link_status"))
                    .all(|link| link.as_deref() == Some("up"))
        });
        eventually("the sentinels have seen the replicas", SETTLED_WITHIN, || {
            self.sentinels.iter().all(sees_replicas)
        });
    }

    fn is_settled(&self, sentinel: &Redis) -> bool {
        let state = sentinel.try_command::<Fields>(&format!("SENTINEL MASTER {NAME}"));
        let state = state.unwrap_or_default();
        let is = |name: &str, expected: &str| state.get(name).is_some_and(|value| value == expected);
        is("flags", "master")
            && is("num-slaves", &REPLICAS.to_string())
            && is("num-other-sentinels", &(SENTINELS - 1).to_string())
            && self.named_by(sentinel) == Some(self.primary())
    }
}

fn sees_replicas(sentinel: &Redis) -> bool {
    let replicas = sentinel.try_command::<Vec<Fields>>(&format!("SENTINEL REPLICAS {NAME}"));
    let sees = |replica: &Fields| {
        ["flags", "role-reported"]
            .iter()
            .all(|name| replica.get(*name).is_some_and(|value| value == "slave"))
    };
    replicas.is_ok_and(|replicas| replicas.len() == REPLICAS && replicas.iter().all(sees))
}

fn member(setting: &Setting, primary: Option<u16>) -> Redis {
    let mut options = Options {
        kind: setting.kind,
        ..Options::default()
    };
    // A replica is in step at once, and not in five seconds, and is noticed to be gone by its silence.
    options = options.with(&[
        "--repl-diskless-sync-delay",
        "0",
        "--repl-ping-replica-period",
        "1",
    ]);
    if let Some(password) = &setting.password {
        options = options.with(&["--requirepass", password, "--masterauth", password]);
    }
    if let Some(folder) = &setting.tls {
        options = options.with_tls(folder);
    }
    if let Some(port) = primary {
        options = options.with(&["--replicaof", "127.0.0.1", &port.to_string()]);
    }
    options.start()
}

fn sentinel(setting: &Setting, primary: u16) -> Redis {
    let mut text = format!(
        "sentinel monitor {NAME} 127.0.0.1 {primary} 2\n\
         sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\n\
         sentinel failover-timeout {NAME} 3000\n\
         sentinel parallel-syncs {NAME} 2\n"
    );
    if let Some(password) = &setting.password {
        text.push_str(&format!("sentinel auth-pass {NAME} {password}\n"));
    }
    let mut options = Options {
        kind: setting.kind,
        ..Options::default()
    };
    if let Some(password) = &setting.sentinel_password {
        text.push_str(&format!("sentinel sentinel-pass {password}\n"));
        options = options.with(&["--requirepass", password]);
    }
    if let Some(folder) = &setting.tls {
        options = options.with_tls(folder);
    }
    options.sentinel = Some(text);
    options.start()
}

fn wait_replicating(replica: &Redis) {
    eventually("a replica is in step", SETTLED_WITHIN, || {
        replica.info("master_link_status").as_deref() == Some("up")
    });
}
