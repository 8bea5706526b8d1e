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
    let found = format!("{quorum} of {known} sentinels, {replicas} replicas");
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
