//! What the nodes' answers mean.

use super::super::facts::Fault;
use super::super::nodes::{ClusterFacts, NodeView};
use super::super::report::{Check, NODES};
use super::{remedy, unknown};
use crate::store::redis::deployment::Kind;
use crate::store::redis::slot::SLOTS;
use crate::store::redis::slot_map::{Endpoint, SlotMap};

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
    let known: Vec<(&str, &str)> = views
        .iter()
        .filter_map(|view| {
            let state = view.info.as_ref().ok()?.get("cluster_state")?;
            Some((view.name.as_str(), state.as_str()))
        })
        .collect();
    let Some((name, state)) = known
        .iter()
        .find(|(_, state)| *state != "ok")
        .or_else(|| known.first())
    else {
        let fault = views.iter().find_map(|view| view.info.as_ref().err());
        return unknown(check, "cluster|info", fault);
    };
    if *state == "ok" {
        return Check::ok(check, format!("ok in the eyes of {} primaries", known.len()));
    }
    Check::problem(
        check,
        format!("{state} in the eyes of {name}"),
        "see slots and the nodes' logs: while it is not ok, calls are refused",
    )
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

fn owner(map: &SlotMap, slot: u16) -> Option<&Endpoint> {
    let place = map.owner(slot)?;
    map.primaries.get(place).map(|(primary, _)| primary)
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

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::super::super::facts::{Answer, Facts, Values, lines};
    use super::super::super::report::Level;
    use super::super::tests::assert_only;
    use super::*;

    /// A map of two primaries that share the slots at `from`.
    fn map(from: i64, last: i64) -> SlotMap {
        let node = |port| Value::Array(vec![Value::SimpleString("h".to_owned()), Value::Int(port)]);
        let range = |first, last, port| Value::Array(vec![Value::Int(first), Value::Int(last), node(port)]);
        let answer = Value::Array(vec![range(0, from - 1, 1), range(from, last, 2)]);
        let host = "h".to_owned();
        SlotMap::read(&answer, &Endpoint { host, port: 1 }).expect("a map")
    }

    fn view(name: &str, info: &str, map: Answer<SlotMap>, strict: bool) -> NodeView {
        let info: Values = lines(info);
        NodeView {
            name: name.to_owned(),
            info: Ok(info),
            map,
            full_coverage: Ok(Some(strict)),
        }
    }

    fn healthy() -> ClusterFacts {
        let info =
            "cluster_state:ok\r\ncluster_current_epoch:7\r\ncluster_slots_fail:0\r\ncluster_slots_pfail:0";
        let views: Vec<NodeView> = ["h:1", "h:2"]
            .map(|name| view(name, info, Ok(map(8_192, 16_383)), false))
            .into();
        let facts = |fault| Facts::unreachable(1, Kind::Cluster, &fault);
        ClusterFacts {
            seeds: views.clone(),
            map: Some(map(8_192, 16_383)),
            primaries: views
                .into_iter()
                .map(|view| (view, facts(Fault::timeout())))
                .collect(),
        }
    }

    fn only(facts: &ClusterFacts, check: &str, level: Level, found: &str) {
        assert_only(&of_cluster(facts), check, level, found);
    }

    #[test]
    fn clusters_in_every_state() {
        use Level::{Ok as Good, Problem, Warning};
        only(
            &healthy(),
            "agreement",
            Good,
            "the same slots everywhere, epoch 7",
        );
        only(&healthy(), "state", Good, "ok in the eyes of 2 primaries");

        let mut facts = healthy();
        facts.seeds[1].map = Err(Fault::timeout());
        only(
            &facts,
            NODES,
            Warning,
            "1 of 2 that are listed answer; h:2: no answer",
        );
        facts.seeds[0].map = Err(Fault::timeout());
        facts.map = None;
        only(&facts, NODES, Problem, "0 of 2");
        assert_eq!(of_cluster(&facts).len(), 1);

        let mut facts = healthy();
        facts.map = Some(map(8_192, 16_382));
        facts.primaries.truncate(1);
        facts.primaries[0].0.map = Ok(map(8_192, 16_382));
        only(
            &facts,
            "slots",
            Problem,
            "16383 of 16384, on 2 primaries, of which 1 are",
        );

        let set = |name: &str, value: &str| {
            let mut facts = healthy();
            if let Ok(info) = &mut facts.primaries[1].0.info {
                info.insert(name.to_owned(), value.to_owned());
            }
            facts
        };
        only(
            &set("cluster_state", "fail"),
            "state",
            Problem,
            "fail in the eyes of h:2",
        );
        only(
            &set("cluster_slots_fail", "5"),
            "slots",
            Problem,
            "5 of them on nodes that are gone",
        );
        only(
            &set("cluster_slots_pfail", "5"),
            "slots",
            Warning,
            "do not answer others",
        );
        only(
            &set("cluster_current_epoch", "8"),
            "agreement",
            Warning,
            "epochs [7, 8]",
        );

        let mut facts = healthy();
        facts.primaries[1].0.map = Ok(map(8_195, 16_383));
        only(
            &facts,
            "agreement",
            Warning,
            "3 slots have another owner in the eyes of h:2",
        );

        let mut facts = healthy();
        facts.primaries[1].0.full_coverage = Ok(Some(true));
        only(&facts, "coverage", Warning, "yes at h:2");
        for (view, _) in &mut facts.primaries {
            view.full_coverage = Err(Fault::new("NOPERM", "NOPERM no"));
        }
        only(&facts, "coverage", Warning, "unknown: NOPERM");
    }
}
