//! What a cluster's node says of who serves which slot. No I/O here.

use std::collections::BTreeMap;
use std::fmt;

use redis::Value;

use super::slot::SLOTS;

/// Slots of nobody.
const NOBODY: u16 = u16::MAX;
/// More primaries than this are none of a real cluster.
const PRIMARIES_MAX: usize = 1_000;
/// More replicas of one primary than this are not remembered.
const REPLICAS_MAX: usize = 16;

/// A node's address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port`, as a redirection has it; an empty host means that of `asked`.
    #[must_use]
    pub fn parse(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Self::of(host, port.parse().ok()?, asked)
    }

    fn of(host: &str, port: u16, asked: &Self) -> Option<Self> {
        match host {
            "?" => None,
            "" => Some(Self {
                host: asked.host.clone(),
                port,
            }),
            host => Some(Self {
                host: host.to_owned(),
                port,
            }),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who serves which slot, and who follows whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// The primaries, each with its replicas.
    pub primaries: Vec<(Endpoint, Vec<Endpoint>)>,
    /// By slot: the primary's place in the list.
    owners: Box<[u16]>,
}

impl SlotMap {
    /// Nobody serves anything.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            primaries: Vec::new(),
            owners: vec![NOBODY; SLOTS].into(),
        }
    }

    /// Reads the answer of `CLUSTER SLOTS` from the node `asked`; `None` if it is none.
    #[must_use]
    pub fn read(answer: &Value, asked: &Endpoint) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut map = Self::empty();
        let mut places: BTreeMap<Endpoint, u16> = BTreeMap::new();
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), primary, replicas @ ..] = range.as_slice() else {
                return None;
            };
            let (first, last) = (usize::try_from(*first).ok()?, usize::try_from(*last).ok()?);
            // A node whose address nobody knows yet can't be used; its slots are nobody's.
            let Some(primary) = endpoint(primary, asked) else {
                continue;
            };
            let place = match places.get(&primary) {
                Some(place) => *place,
                None => {
                    let place = u16::try_from(map.primaries.len()).ok()?;
                    if map.primaries.len() >= PRIMARIES_MAX {
                        return None;
                    }
                    let replicas = replicas.iter().take(REPLICAS_MAX);
                    let replicas = replicas.filter_map(|it| endpoint(it, asked)).collect();
                    map.primaries.push((primary.clone(), replicas));
                    places.insert(primary, place);
                    place
                }
            };
            map.owners.get_mut(first..=last)?.fill(place);
        }
        Some(map)
    }

    /// The place of the primary that serves a slot.
    #[must_use]
    pub fn owner(&self, slot: u16) -> Option<usize> {
        let place = *self.owners.get(usize::from(slot))?;
        (place != NOBODY).then_some(usize::from(place))
    }

    /// Whether every slot has the same primary in both.
    #[must_use]
    pub fn agrees_with(&self, other: &Self) -> bool {
        let of = |map: &Self, place: u16| {
            map.primaries
                .get(usize::from(place))
                .map(|(primary, _)| primary.clone())
        };
        if self.primaries == other.primaries && self.owners == other.owners {
            return true;
        }
        // Places differ from node to node: compared are pairs of places, of which there are few.
        let mut same: BTreeMap<(u16, u16), bool> = BTreeMap::new();
        self.owners.iter().zip(&other.owners).all(|(a, b)| {
            *same
                .entry((*a, *b))
                .or_insert_with(|| of(self, *a) == of(other, *b))
        })
    }

    /// How many slots somebody serves.
    #[must_use]
    pub fn covered(&self) -> usize {
        self.owners.iter().filter(|place| **place != NOBODY).count()
    }

    /// Gives a slot to a primary, which becomes known if it was not.
    pub fn assign(&mut self, slot: u16, to: &Endpoint) {
        let known = self.primaries.iter().position(|(primary, _)| primary == to);
        let place = known.unwrap_or_else(|| {
            self.primaries.push((to.clone(), Vec::new()));
            self.primaries.len() - 1
        });
        if let (Some(owner), Ok(place)) = (self.owners.get_mut(usize::from(slot)), u16::try_from(place)) {
            *owner = place;
        }
    }
}

/// `[host, port, …]`. The host may be missing: then it is that of the node that was asked.
fn endpoint(node: &Value, asked: &Endpoint) -> Option<Endpoint> {
    let Value::Array(node) = node else { return None };
    let [host, Value::Int(port), ..] = node.as_slice() else {
        return None;
    };
    let host = match host {
        Value::Nil => String::new(),
        other => redis::from_redis_value_ref(other).ok()?,
    };
    Endpoint::of(&host, u16::try_from(*port).ok()?, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        let host = Value::BulkString(host.into());
        Value::Array(vec![host, Value::Int(port), Value::BulkString("id".into())])
    }

    fn range(first: i64, last: i64, nodes: &[Value]) -> Value {
        let mut all = vec![Value::Int(first), Value::Int(last)];
        all.extend_from_slice(nodes);
        Value::Array(all)
    }

    fn at(host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn ranges_are_read() {
        let answer = Value::Array(vec![
            range(0, 99, &[node("a", 1), node("b", 2)]),
            range(200, 16_383, &[node("", 3)]),
            range(100, 149, &[node("a", 1), node("b", 2)]),
            range(150, 199, &[node("?", 4)]),
        ]);
        let map = SlotMap::read(&answer, &at("asked", 9)).expect("well formed");
        let owner = |slot| map.owner(slot).map(|place| map.primaries[place].0.to_string());
        assert_eq!(owner(0).as_deref(), Some("a:1"));
        assert_eq!(owner(149).as_deref(), Some("a:1"));
        assert_eq!(owner(150), None);
        assert_eq!(owner(16_383).as_deref(), Some("asked:3"));
        assert_eq!(map.covered(), SLOTS - 50);
        assert_eq!(map.primaries[0].1, [at("b", 2)]);
    }

    #[test]
    fn nonsense_is_no_map() {
        let asked = at("asked", 9);
        for nonsense in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, &[node("a", 1)])]),
            Value::Array(vec![range(-1, 5, &[node("a", 1)])]),
            Value::Array(vec![range(9, 5, &[node("a", 70_000)])]),
        ] {
            let read = SlotMap::read(&nonsense, &asked);
            assert!(read.is_none_or(|map| map.covered() == 0), "{nonsense:?}");
        }
    }

    #[test]
    fn a_redirection_moves_one_slot() {
        let mut map = SlotMap::empty();
        let to = Endpoint::parse("[::1]:7000", &at("x", 1)).expect("an address");
        map.assign(5, &to);
        assert_eq!((map.owner(5), map.owner(6)), (Some(0), None));
        assert_eq!(map.primaries[0].0.to_string(), "[::1]:7000");
        assert_eq!(Endpoint::parse(":7", &to), Some(at("::1", 7)));
        assert_eq!(Endpoint::parse("?:7", &to), None);
        assert_eq!(Endpoint::parse("7", &to), None);
    }
}
