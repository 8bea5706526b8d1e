//! What a scalar is, by yaml.v2's rules (YAML 1.1): `yes` is a boolean, `010` is 8, a quoted value is always text.
//!
//! Timestamps need no kind of their own: where no timestamp is asked for, and a policy file never asks, yaml.v2 keeps
//! them as they are written.

use super::number::{self, Whole};
use super::{Scalar, Tag};

/// What a scalar is read as.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number above 2^63 − 1.
    Large(u64),
    /// A number with a fraction or an exponent, an infinity or no number, or a whole one above 2^64 − 1.
    Float(f64),
    /// Its text, as written.
    Text,
}

/// A tag that its value does not fit, or that is not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagError {
    /// The tag as it is usually written.
    pub tag: &'static str,
}

/// What `scalar` is read as.
///
/// # Errors
/// If its explicit tag names another type than its text. `!!binary` is not supported.
pub fn resolve(scalar: &Scalar<'_>) -> Result<Value, TagError> {
    let text = scalar.text.as_ref();
    let value = match scalar.tag {
        None if !scalar.plain => return Ok(Value::Text),
        None => return Ok(by_text(text)),
        Some(Tag::Str | Tag::Merge | Tag::Other) => return Ok(Value::Text),
        Some(Tag::Binary) => return Err(TagError { tag: "!!binary" }),
        Some(Tag::Bool | Tag::Int | Tag::Float | Tag::Null) => by_text(text),
    };
    match (scalar.tag, value) {
        (Some(Tag::Bool), Value::Bool(_)) | (Some(Tag::Null), Value::Null) => Ok(value),
        (Some(Tag::Int), Value::Int(_) | Value::Large(_)) | (Some(Tag::Float), Value::Float(_)) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "the tag asks for it")]
        (Some(Tag::Float), Value::Int(whole)) => Ok(Value::Float(whole as f64)),
        (Some(Tag::Bool), _) => Err(TagError { tag: "!!bool" }),
        (Some(Tag::Null), _) => Err(TagError { tag: "!!null" }),
        (Some(Tag::Int), _) => Err(TagError { tag: "!!int" }),
        (_, _) => Err(TagError { tag: "!!float" }),
    }
}

/// Whether a plain number has a leading zero that makes it octal, which hardly anybody means.
pub fn looks_octal(scalar: &Scalar<'_>) -> bool {
    let digits = scalar.text.trim_start_matches(['+', '-']);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_')
}

fn by_text(text: &str) -> Value {
    if let Some(value) = by_name(text) {
        return value;
    }
    match text.as_bytes().first() {
        Some(b'.') => number::without_underscores(text)
            .and_then(|plain| number::float(&plain))
            .map_or(Value::Text, Value::Float),
        Some(b'0'..=b'9' | b'+' | b'-') => by_digits(&text.replace('_', "")),
        _ => Value::Text,
    }
}

fn by_digits(plain: &str) -> Value {
    match number::whole(plain) {
        Some(Whole::Signed(value)) => return Value::Int(value),
        Some(Whole::Large(value)) => return Value::Large(value),
        None => {}
    }
    if let Some(value) = number::float(plain) {
        return Value::Float(value);
    }
    number::binary_with_inner_sign(plain).map_or(Value::Text, Value::Int)
}

fn by_name(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}
