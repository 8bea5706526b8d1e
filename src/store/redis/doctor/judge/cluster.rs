//! What the nodes' answers mean.

use super::super::facts::Fault;
use super::super::nodes::{ClusterFacts, NodeView};
use super::super::report::{Check, NODES};
use super::{remedy, unknown};
use crate::store::redis::deployment::Kind;
use crate::store::redis::slot::SLOTS;
use crate::store::redis::slot_map::SlotMap;

pub(in super::super) fn of_cluster(facts: &ClusterFacts) -> Vec<Check> {
    let mut checks = vec![reached(facts)];
    if let Some(map) = &facts.map {
        checks.push(slots(facts, map));
        let views: Vec<&NodeView> = facts.primaries.iter().map(|(view, _)| view).collect();
        if !views.is_empty() {
            checks.extend([state(&views), agreement(&views, map), coverage(&views)]);
        }
    }
    checks
}

fn reached(facts: &ClusterFacts) -> Check {
    let all = facts.seeds.len();
    let faults = facts
        .seeds
        .iter()
        .filter_map(|view| Some((&view.name, view.map.as_ref().err()?)));
    let faults: Vec<(&String, &Fault)> = faults.collect();
    let answering = all - faults.len();
    let Some((_, first)) = faults.first() else {
        return Check::ok(NODES, format!("{all} of {all} that are listed answer"));
    };
    let texts: Vec<String> = faults
        .iter()
        .map(|(name, fault)| format!("{name}: {fault}"))
        .collect();
    let found = format!(
        "{answering} of {all} that are listed answer; {}",
        texts.join("; ")
    );
    let advice = match first.code.as_str() {
        "ERR" => "for a server that is no cluster's node set redis.type (REDIS_TYPE) single",
        _ => remedy(Kind::Cluster, first),
    };
    if answering == 0 {
        Check::problem(NODES, found, advice)
    } else {
        Check::warning(NODES, found, advice)
    }
}

fn slots(facts: &ClusterFacts, map: &SlotMap) -> Check {
    let check = "slots";
    let (covered, primaries) = (map.covered(), map.primaries.len());
    let mut found = format!("{covered} of {SLOTS}, on {primaries} primaries");
    if facts.primaries.len() < primaries {
        found = format!("{found}, of which {} are examined", facts.primaries.len());
    }
    if covered < SLOTS {
        return Check::problem(
            check,
            found,
            "give all slots to nodes (redis-cli --cluster fix): keys of the others are not counted",
        );
    }
    let failing = |name: &str| {
        let views = facts.primaries.iter().map(|(view, _)| view);
        views
            .filter_map(|view| view.number(name))
            .max()
            .filter(|count| *count > 0)
    };
    if let Some(count) = failing("cluster_slots_fail") {
        let found = format!("{found}, {count} of them on nodes that are gone");
        return Check::problem(
            check,
            found,
            "start those nodes, or have their replicas take over (CLUSTER FAILOVER)",
        );
    }
    if let Some(count) = failing("cluster_slots_pfail") {
        let found = format!("{found}, {count} of them on nodes that do not answer others");
        return Check::warning(
            check,
            found,
            "look at those nodes and at the network between them",
        );
    }
    Check::ok(check, found)
}

fn state(views: &[&NodeView]) -> Check {
    let check = "state";
    let of = |view: &NodeView| match &view.info {
        Ok(info) => Ok(info.get("cluster_state").cloned().unwrap_or_default()),
        Err(fault) => Err(fault.clone()),
    };
    let bad = views
        .iter()
        .find_map(|view| Some((&view.name, of(view).ok().filter(|state| state != "ok")?)));
    if let Some((name, state)) = bad {
        return Check::problem(
            check,
            format!("{state} in the eyes of {name}"),
            "see slots and the nodes' logs: while it is not ok, calls are refused",
        );
    }
    match views.iter().find_map(|view| of(view).err()) {
        Some(fault) => unknown(check, "cluster|info", Some(&fault)),
        None => Check::ok(check, "ok in the eyes of all primaries"),
    }
}

/// Whether all primaries have the same map, and know the same epoch.
fn agreement(views: &[&NodeView], map: &SlotMap) -> Check {
    let check = "agreement";
    for view in views {
        let Ok(other) = &view.map else { continue };
        let differing = (0..SLOTS)
            .filter_map(|slot| u16::try_from(slot).ok())
            .filter(|slot| owner(map, *slot) != owner(other, *slot));
        let count = differing.count();
        if count > 0 {
            return Check::warning(
                check,
                format!("{count} slots have another owner in the eyes of {}", view.name),
                "that is so for a moment when slots move or a replica takes over; else see whether all nodes reach each other \
                 (CLUSTER NODES)",
            );
        }
    }
    let mut epochs: Vec<u64> = views
        .iter()
        .filter_map(|view| view.number("cluster_current_epoch"))
        .collect();
    epochs.sort_unstable();
    epochs.dedup();
    match epochs.as_slice() {
        [_, .., _] => Check::warning(
            check,
            format!("the same slots everywhere, epochs {epochs:?}"),
            "see whether all nodes reach each other (CLUSTER NODES)",
        ),
        [epoch] => Check::ok(check, format!("the same slots everywhere, epoch {epoch}")),
        [] => Check::ok(check, "the same slots everywhere"),
    }
}

fn owner(map: &SlotMap, slot: u16) -> Option<String> {
    let place = map.owner(slot)?;
    map.primaries.get(place).map(|(primary, _)| primary.to_string())
}

fn coverage(views: &[&NodeView]) -> Check {
    let check = "coverage";
    let strict = views
        .iter()
        .find(|view| matches!(view.full_coverage, Ok(Some(true))));
    if let Some(view) = strict {
        return Check::warning(
            check,
            format!("cluster-require-full-coverage yes at {}", view.name),
            "CONFIG SET cluster-require-full-coverage no: else the loss of one primary without a replica ends counting on all",
        );
    }
    if views.iter().any(|view| matches!(view.full_coverage, Ok(Some(_)))) {
        return Check::ok(
            check,
            "cluster-require-full-coverage no: what is lost is counted without redis, the rest goes on",
        );
    }
    let fault = views.iter().find_map(|view| view.full_coverage.as_ref().err());
    unknown(check, "config|get", fault)
}
