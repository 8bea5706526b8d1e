//! The kinds of values: what each takes, from text (flags, environment) and from TOML, and how it says so.
//!
//! Both ways end in one canonical [`ValueKind`] that `typed` can deserialise; durations become nanoseconds.

use config::{Value, ValueKind};

use super::{go, typed::Endpoint};

/// A choice: what the user writes (compared without case), and the name that the typed settings use.
pub type Choice = (&'static str, &'static str);

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// True or false, as Go's `strconv.ParseBool` reads them.
    Bool,
    /// A whole number in a range, both ends included.
    Integer(i64, i64),
    /// A number from 0 to 1 of 32 bits, as the reference server keeps it.
    Ratio,
    /// A Go duration in a range, both ends included, in nanoseconds.
    Duration(u64, u64),
    /// One of a few names.
    Choice(&'static [Choice]),
    /// A name or address of a network interface; empty is `0.0.0.0`.
    Host,
    /// `host:port`; the host may be empty. Empty is unset.
    Endpoint,
    /// The name of an HTTP response header.
    Header,
    /// Any text; empty is unset.
    Text,
    /// A path, relative to the working directory; empty is unset.
    Path,
    /// The path of a URL: a slash, then letters, digits and `/-_.~`.
    UrlPath,
    /// Names with values.
    Map,
}

/// Header names that a response may not be given: they frame the message or belong to a connection.
const RESERVED_HEADERS: [&str; 10] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The longest header name, in bytes.
const HEADER_BYTES_MAX: usize = 256;

impl Kind {
    /// What is allowed, for an error text: "want …".
    #[must_use]
    pub fn want(&self) -> String {
        match *self {
            Self::Bool => "true or false".to_owned(),
            Self::Integer(min, max) => format!("a whole number from {min} to {max}"),
            Self::Ratio => "a number from 0 to 1".to_owned(),
            Self::Duration(min, max) => format!(
                "a duration from {} to {} such as 10s, 150us or 1h30m",
                go::format_duration(min),
                go::format_duration(max)
            ),
            Self::Choice(choices) => {
                let names: Vec<_> = names(choices).collect();
                format!("one of {}", names.join(", "))
            }
            Self::Host => "a host name or address without a port".to_owned(),
            Self::Endpoint => "an address such as :9090 or 127.0.0.1:9090".to_owned(),
            Self::Header => "the name of an HTTP header that is not reserved".to_owned(),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::UrlPath => "a path such as /metrics".to_owned(),
            Self::Map => "a map such as name:value,name:value".to_owned(),
        }
    }

    /// A word for the value, in the help of flags and in the reference.
    #[must_use]
    pub fn placeholder(&self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Integer(..) => "N",
            Self::Ratio => "RATIO",
            Self::Duration(..) => "DURATION",
            Self::Choice(_) => "NAME",
            Self::Host => "HOST",
            Self::Endpoint => "ADDRESS",
            Self::Header => "HEADER",
            Self::Text => "TEXT",
            Self::Path | Self::UrlPath => "PATH",
            Self::Map => "MAP",
        }
    }

    /// The value for a table of the reference: the placeholder with the bounds or the names.
    pub(super) fn column(&self) -> String {
        match *self {
            Self::Integer(min, max) => format!("N, {min} … {max}"),
            Self::Ratio => "RATIO, 0 … 1".to_owned(),
            Self::Duration(min, max) => {
                format!(
                    "DURATION, {} … {}",
                    go::format_duration(min),
                    go::format_duration(max)
                )
            }
            Self::Choice(choices) => {
                let names: Vec<_> = names(choices).map(|name| format!("`{name}`")).collect();
                format!("NAME: {}", names.join(", "))
            }
            _ => self.placeholder().to_owned(),
        }
    }

    /// Whether an empty text is a value that a default can be.
    pub(super) fn takes_empty(&self) -> bool {
        self.parse("").is_some()
    }

    /// The canonical value of a text, or `None` when this kind does not take it.
    #[must_use]
    pub fn parse(&self, text: &str) -> Option<ValueKind> {
        match *self {
            Self::Bool => go::parse_bool(text).map(ValueKind::from),
            Self::Integer(min, max) => go::parse_int(text)
                .filter(|n| (min..=max).contains(n))
                .map(ValueKind::from),
            Self::Ratio => go::parse_float32(text).and_then(ratio),
            Self::Duration(min, max) => {
                let ns = go::parse_duration(text).filter(|ns| (min..=max).contains(ns))?;
                i64::try_from(ns).ok().map(ValueKind::from)
            }
            Self::Choice(choices) => {
                let choice = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text))?;
                Some(ValueKind::from(choice.1))
            }
            Self::Host => host(text).map(ValueKind::from),
            Self::Header => is_header(text).then(|| ValueKind::from(text)),
            Self::Endpoint | Self::Text | Self::Path if text.is_empty() => Some(ValueKind::Nil),
            Self::Endpoint => text.parse::<Endpoint>().ok().map(|_| ValueKind::from(text)),
            Self::Path if text.contains('\0') => None,
            Self::Text | Self::Path => Some(ValueKind::from(text)),
            Self::UrlPath => is_url_path(text).then(|| ValueKind::from(text)),
            Self::Map => go::parse_map(text).map(map),
        }
    }

    /// The canonical value of a TOML value. Numbers and truth values have TOML's own types; everything else is a
    /// string, read as [`Kind::parse`] does, and a map may be a table of strings as well.
    #[must_use]
    pub fn convert(&self, value: &Value) -> Option<ValueKind> {
        match (*self, &value.kind) {
            (Self::Bool, ValueKind::Boolean(_)) => Some(value.kind.clone()),
            (Self::Bool | Self::Integer(..) | Self::Ratio, ValueKind::String(_)) => None,
            (Self::Integer(min, max), ValueKind::I64(n)) => {
                (min..=max).contains(n).then(|| ValueKind::from(*n))
            }
            (Self::Ratio, ValueKind::I64(n)) => self.parse(&n.to_string()),
            (Self::Ratio, ValueKind::Float(n)) => self.parse(&n.to_string()),
            (Self::Map, ValueKind::Table(table)) => {
                let pairs = table.iter().map(|(name, value)| match &value.kind {
                    ValueKind::String(text) if !name.is_empty() => Some((name.clone(), text.clone())),
                    _ => None,
                });
                pairs.collect::<Option<Vec<_>>>().map(map)
            }
            (_, ValueKind::String(text)) => self.parse(text),
            _ => None,
        }
    }
}

/// The names of choices; the empty one goes without saying.
fn names(choices: &'static [Choice]) -> impl Iterator<Item = &'static str> {
    choices
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !name.is_empty())
}

/// A ratio as the wider float that `config` holds; the way back to 32 bits is exact.
fn ratio(number: f32) -> Option<ValueKind> {
    (0.0..=1.0)
        .contains(&number)
        .then(|| ValueKind::from(f64::from(number)))
}

/// A map as a list of pairs: `config` would merge tables of two sources, where the higher one has to win whole.
fn map(pairs: Vec<(String, String)>) -> ValueKind {
    ValueKind::from(
        pairs
            .into_iter()
            .map(|(name, value)| Value::from(vec![name, value]))
            .collect::<Vec<_>>(),
    )
}

/// A host as a socket wants it: without the brackets of an IPv6 address, `0.0.0.0` for none. Other colons are refused,
/// so that `host:8080` is caught here and not as a failed look-up later.
pub(super) fn host(text: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner.unwrap_or(text) {
        address if address.parse::<std::net::Ipv6Addr>().is_ok() => Some(address),
        "" if inner.is_none() => Some("0.0.0.0"),
        name => (inner.is_none() && name.bytes().all(plain)).then_some(name),
    }
}

/// Whether a text is a field name of RFC 9110 §5.1 that a response may be given.
fn is_header(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    let lower = text.to_ascii_lowercase();
    (1..=HEADER_BYTES_MAX).contains(&text.len())
        && text.bytes().all(token)
        && !lower.starts_with("grpc-")
        && !RESERVED_HEADERS.contains(&lower.as_str())
}

/// Whether a text is a path that needs no escaping and means nothing special to a router.
fn is_url_path(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/-_.~".contains(&b))
}
