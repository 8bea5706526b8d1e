//! Makes one check of the same check of several servers, so that a report of many is as long as that of one.

use super::report::{Check, Level};

/// Servers that are named in a check.
const NAMED_MAX: usize = 3;

/// Joins the checks of named servers. Each has the worst of the levels, and names the servers that are on it.
pub(super) fn fold(servers: impl Iterator<Item = (String, Vec<Check>)>) -> Vec<Check> {
    let servers: Vec<(String, Vec<Check>)> = servers.collect();
    let mut order: Vec<&'static str> = Vec::new();
    // That of a server which was reached has all of them.
    let longest_first = {
        let mut all: Vec<_> = servers.iter().collect();
        all.sort_by_key(|(_, checks)| std::cmp::Reverse(checks.len()));
        all
    };
    for check in longest_first.iter().flat_map(|(_, checks)| checks) {
        if !order.contains(&check.check) {
            order.push(check.check);
        }
    }
    let alike = |name: &'static str| {
        let those = servers.iter().flat_map(move |(server, checks)| {
            let its = checks.iter().filter(move |check| check.check == name);
            its.map(move |check| (server.as_str(), check))
        });
        those.collect::<Vec<_>>()
    };
    order.into_iter().filter_map(|name| join(&alike(name))).collect()
}

/// One check of the same one of several servers; nothing of nothing.
fn join(checks: &[(&str, &Check)]) -> Option<Check> {
    let level = checks.iter().map(|(_, check)| check.level).max()?;
    let worst: Vec<_> = checks.iter().filter(|(_, check)| check.level == level).collect();
    let (server, first) = worst.first()?;
    let found = if checks.len() == 1 {
        format!("{server}: {}", first.found)
    } else if checks.iter().all(|(_, check)| check.found == first.found) {
        format!("{} ({} servers)", first.found, checks.len())
    } else if level == Level::Ok {
        format!("{server}: {}; {} more ok", first.found, checks.len() - 1)
    } else {
        let named = worst.iter().take(NAMED_MAX);
        let mut named: Vec<String> = named
            .map(|(server, check)| format!("{server}: {}", check.found))
            .collect();
        if worst.len() > NAMED_MAX {
            named.push(format!("{} more", worst.len() - NAMED_MAX));
        }
        named.join("; ")
    };
    Some(Check {
        found,
        ..(*first).clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(servers: Vec<(&str, Vec<Check>)>) -> Vec<String> {
        let servers = servers
            .into_iter()
            .map(|(name, checks)| (name.to_owned(), checks));
        let folded = fold(servers);
        folded
            .iter()
            .map(|check| {
                format!(
                    "{} {}: {} -> {}",
                    check.level.name(),
                    check.check,
                    check.found,
                    check.advice.as_deref().unwrap_or_default()
                )
            })
            .collect()
    }

    #[test]
    fn the_worst_is_told_with_its_server() {
        let some = |memory: Check| vec![Check::ok("role", "primary"), memory];
        let folded = text(vec![
            ("a:1", vec![Check::problem("role", "gone", "see")]),
            ("a:2", some(Check::ok("memory", "1 %"))),
            ("a:3", some(Check::warning("memory", "80 %", "make room"))),
            ("a:4", some(Check::ok("memory", "2 %"))),
        ]);
        assert_eq!(
            folded,
            [
                "problem role: a:1: gone -> see",
                "warning memory: a:3: 80 % -> make room"
            ]
        );
    }

    #[test]
    fn what_is_the_same_everywhere_is_told_once() {
        let server = |found: &str| vec![Check::ok("role", "primary"), Check::ok("memory", found)];
        let folded = text(vec![("a:1", server("1 %")), ("a:2", server("2 %"))]);
        assert_eq!(
            folded,
            [
                "ok role: primary (2 servers) -> ",
                "ok memory: a:1: 1 %; 1 more ok -> "
            ]
        );
        let one = text(vec![("a:1", vec![Check::ok("role", "primary")])]);
        assert_eq!(one, ["ok role: a:1: primary -> "]);
        assert!(text(Vec::new()).is_empty());
    }

    #[test]
    fn of_many_some_are_named() {
        let servers = (1..=5).map(|at| {
            let name = format!("a:{at}");
            (name, vec![Check::warning("memory", format!("{at} %"), "see")])
        });
        let folded = fold(servers);
        assert_eq!(folded[0].found, "a:1: 1 %; a:2: 2 %; a:3: 3 %; 2 more");
    }
}
