//! What sentinels' answers mean.

use super::super::facts::Fault;
use super::super::report::{Check, SENTINELS};
use super::super::sentinels::SentinelView;
use super::{remedy, unknown};
use crate::store::redis::deployment::Kind;

/// Fewer can't outvote one that is cut off.
const SENTINELS_MIN: u64 = 3;

pub(in super::super) fn of_sentinels(master: &str, views: &[SentinelView]) -> Vec<Check> {
    let answering: Vec<&SentinelView> = views.iter().filter(|view| view.primary.is_ok()).collect();
    let mut checks = vec![reached(views, answering.len())];
    if !answering.is_empty() {
        checks.push(named(master, &answering));
        // Without a primary there is nothing that they could agree upon.
        if answering.iter().any(|view| matches!(view.primary, Ok(Some(_)))) {
            checks.push(quorum(&answering));
        }
    }
    checks
}

fn reached(views: &[SentinelView], answering: usize) -> Check {
    let faults: Vec<(&str, &Fault)> = views
        .iter()
        .filter_map(|view| Some((view.name.as_str(), view.primary.as_ref().err()?)))
        .collect();
    let all = views.len();
    let Some((_, first)) = faults.first() else {
        return Check::ok(SENTINELS, format!("{all} of {all} answer"));
    };
    let texts: Vec<String> = faults
        .iter()
        .map(|(name, fault)| format!("{name}: {fault}"))
        .collect();
    let found = format!("{answering} of {all} answer; {}", texts.join("; "));
    if answering == 0 {
        Check::problem(SENTINELS, found, sentinel_remedy(first))
    } else {
        Check::warning(SENTINELS, found, sentinel_remedy(first))
    }
}

fn sentinel_remedy(fault: &Fault) -> &'static str {
    match fault.code.as_str() {
        "NOAUTH" => "the sentinels ask for a password: set redis.sentinel_auth (REDIS_SENTINEL_AUTH)",
        "WRONGPASS" => {
            "correct redis.sentinel_auth (REDIS_SENTINEL_AUTH), or user and password in redis.url (REDIS_URL)"
        }
        "unreachable" | "timeout" => {
            "see whether the sentinels run, and whether redis.url (REDIS_URL) names them"
        }
        "ERR" => {
            "see whether redis.url (REDIS_URL) names sentinels, which have a port of their own, mostly 26379"
        }
        _ => remedy(Kind::Sentinel, fault),
    }
}

fn named(master: &str, views: &[&SentinelView]) -> Check {
    let check = "named";
    let mut votes: Vec<(String, Vec<&str>)> = Vec::new();
    for view in views {
        let Ok(primary) = &view.primary else { continue };
        let whom = primary
            .as_ref()
            .map_or_else(|| "nobody".to_owned(), ToString::to_string);
        match votes.iter_mut().find(|(other, _)| *other == whom) {
            Some((_, who)) => who.push(&view.name),
            None => votes.push((whom, vec![&view.name])),
        }
    }
    match votes.as_slice() {
        [(whom, _)] if whom == "nobody" => Check::problem(
            check,
            format!("the sentinels know no {master}"),
            "let redis.url (REDIS_URL) begin with the name after sentinel monitor in their configuration",
        ),
        [(whom, _)] => match down(views) {
            Some(view) => Check::problem(
                check,
                format!("{whom} is {master}, and down in the eyes of {view}"),
                "see whether it runs; if a failover does not follow, see quorum",
            ),
            None => Check::ok(check, format!("{whom} is {master}")),
        },
        _ => {
            let texts: Vec<String> = votes
                .iter()
                .map(|(whom, who)| format!("{whom} by {}", who.join(", ")))
                .collect();
            Check::problem(
                check,
                texts.join("; "),
                "a failover under way ends within a minute; else see whether the sentinels reach each other: of two primaries \
                 each counts a part, so that limits are exceeded",
            )
        }
    }
}

/// A sentinel that does not reach the primary.
fn down<'a>(views: &[&'a SentinelView]) -> Option<&'a str> {
    let flags = |view: &SentinelView| view.state.as_ref().ok()?.get("flags").cloned();
    let down = views
        .iter()
        .find(|view| flags(view).is_some_and(|flags| flags.contains("_down")));
    down.map(|view| view.name.as_str())
}

fn quorum(views: &[&SentinelView]) -> Check {
    let check = "quorum";
    let number = |name: &str| {
        let states = views.iter().filter_map(|view| view.state.as_ref().ok());
        states
            .filter_map(|state| state.get(name)?.parse::<u64>().ok())
            .min()
    };
    if let Some((name, fault)) = views.iter().find_map(|view| match &view.quorum {
        Err(fault) if fault.code == "NOQUORUM" => Some((&view.name, fault)),
        _ => None,
    }) {
        return Check::problem(
            check,
            format!("{name}: {fault}"),
            "start the sentinels that are gone, or let them reach each other: without a majority there is no failover",
        );
    }
    let (Some(quorum), Some(others), Some(replicas)) = (
        number("quorum"),
        number("num-other-sentinels"),
        number("num-slaves"),
    ) else {
        let fault = views.iter().find_map(|view| view.state.as_ref().err());
        return unknown(check, "sentinel", fault);
    };
    let known = others + 1;
    let found = format!("{quorum} of {known} sentinels, replicas: {replicas}");
    if known < SENTINELS_MIN {
        Check::warning(
            check,
            found,
            "run at least three sentinels on machines of their own: of two, the loss of one ends failovers",
        )
    } else {
        Check::ok(check, found)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::facts::lines;
    use super::super::super::report::Level;
    use super::super::super::sentinels::named_by_most;
    use super::super::tests::assert_only;
    use super::*;
    use crate::store::redis::slot_map::Endpoint;

    fn at(port: u16) -> Endpoint {
        let host = "h".to_owned();
        Endpoint { host, port }
    }

    fn view(name: &str, port: u16) -> SentinelView {
        SentinelView {
            name: name.to_owned(),
            primary: Ok(Some(at(port))),
            state: Ok(lines(
                "flags:master\nquorum:2\nnum-other-sentinels:2\nnum-slaves:1",
            )),
            quorum: Ok("OK 3 usable Sentinels".to_owned()),
        }
    }

    fn three() -> Vec<SentinelView> {
        ["s:1", "s:2", "s:3"].map(|name| view(name, 6_379)).into()
    }

    fn only(views: &[SentinelView], check: &str, level: Level, found: &str) {
        assert_only(&of_sentinels("main", views), check, level, found);
    }

    #[test]
    fn sentinels_in_every_state() {
        use Level::{Ok as Good, Problem, Warning};
        only(&three(), SENTINELS, Good, "3 of 3 answer");
        only(&three(), "named", Good, "h:6379 is main");
        only(&three(), "quorum", Good, "2 of 3 sentinels, replicas: 1");

        let mut views = three();
        views[1].primary = Err(Fault::new("unreachable", "refused"));
        only(&views, SENTINELS, Warning, "2 of 3 answer; s:2: refused");
        let gone = views[1].clone();
        only(&[gone], SENTINELS, Problem, "0 of 1 answer");

        let mut views = three();
        views[2].primary = Ok(Some(at(6_380)));
        only(&views, "named", Problem, "h:6379 by s:1, s:2; h:6380 by s:3");
        views[2].primary = Ok(None);
        only(&views, "named", Problem, "nobody by s:3");

        let mut views = three();
        views[0].state = Ok(lines(
            "flags:s_down,master\nquorum:2\nnum-other-sentinels:2\nnum-slaves:1",
        ));
        only(&views, "named", Problem, "down in the eyes of s:1");

        let mut views = three();
        views[0].quorum = Err(Fault::new("NOQUORUM", "NOQUORUM 1 usable Sentinels"));
        only(&views, "quorum", Problem, "s:1: NOQUORUM 1");
        let mut views = three();
        for view in &mut views {
            view.state = Ok(lines(
                "flags:master\nquorum:1\nnum-other-sentinels:1\nnum-slaves:1",
            ));
        }
        only(&views, "quorum", Warning, "1 of 2 sentinels");
        for view in &mut views {
            view.state = Err(Fault::new("NOPERM", "NOPERM no"));
        }
        only(&views, "quorum", Warning, "unknown: NOPERM");

        for view in &mut views {
            view.primary = Ok(None);
        }
        let checks = of_sentinels("main", &views);
        assert_eq!((checks.len(), checks[1].level), (2, Problem), "{checks:?}");
    }

    #[test]
    fn most_sentinels_are_right() {
        let mut views = three();
        views[0].primary = Ok(Some(at(1)));
        assert_eq!(named_by_most(&views), Some(at(6_379)));
        views[1].primary = Err(Fault::timeout());
        assert_eq!(named_by_most(&views), Some(at(1)), "of equals the first");
        assert_eq!(named_by_most(&[]), None);
    }
}
