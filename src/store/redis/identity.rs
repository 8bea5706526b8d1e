//! Who a server is: what tells a primary from the one that was there before. No I/O here.

use std::fmt;

/// A server as it says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// A new one with each start.
    run_id: String,
    /// A new one with each history of writes.
    replication_id: String,
    /// Whether it only follows another server.
    pub replica: bool,
    /// Whether it knows `#!lua`: Redis from 7.0 on, and Valkey.
    pub flags: bool,
    /// Name and version, for people.
    pub version: String,
}

impl Identity {
    /// Reads the answers of `INFO server` and `INFO replication`, one behind the other; `None` if they lack what tells servers apart.
    #[must_use]
    pub fn of(info: &str) -> Option<Self> {
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let redis = field("redis_version")?;
        let valkey = field("valkey_version");
        let major = redis.split('.').next()?.parse::<u32>().ok()?;
        Some(Self {
            run_id: field("run_id")?.to_owned(),
            replication_id: field("master_replid")?.to_owned(),
            replica: field("role")? != "master",
            flags: major >= 7,
            version: match valkey {
                Some(version) => format!("valkey {version}"),
                None => format!("redis {redis}"),
            },
        })
    }

    /// Whether this is the same server with the same history of writes.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.run_id == other.run_id && self.replication_id == other.replication_id
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:aa\r\n\r\n# Replication\r\nrole:master\r\nmaster_replid:bb\r\n";

    #[test]
    fn it_is_read_and_compared() {
        let it = Identity::of(INFO).expect("complete");
        assert_eq!(
            (it.replica, it.flags, it.to_string().as_str()),
            (false, true, "redis 7.0.15")
        );
        assert!(it.is(&it.clone()));
        let other = |from: &str, to: &str| Identity::of(&INFO.replace(from, to)).expect("complete");
        assert!(!it.is(&other("run_id:aa", "run_id:ab")) && !it.is(&other("replid:bb", "replid:ba")));
        assert!(it.is(&other("role:master", "role:slave")) && other("role:master", "role:slave").replica);
        assert!(!other("7.0.15", "6.2.14").flags);
        let valkey = other("run_id", "valkey_version:9.1.2\r\nrun_id");
        assert_eq!(valkey.version, "valkey 9.1.2");
        assert_eq!(Identity::of("redis_version:7.0.15"), None);
    }
}
