//! How a scalar is read, against what yaml.v2 makes of it.

use ratekeeper::policy::yaml::{Bounds, Kind, TagError, Value, read, resolve};

fn scalar(text: &str) -> Result<Value, TagError> {
    let text = format!("- {text}\n");
    let document = read(&text, &Bounds::default());
    assert_eq!(document.failure, None, "{text}");
    let root = document.node(document.root.expect("a list"));
    let Kind::Seq(items) = &root.kind else {
        panic!("{text} is no list")
    };
    let Kind::Scalar(scalar) = &document.node(items[0]).kind else {
        panic!("{text} is no scalar")
    };
    resolve(scalar)
}

#[test]
fn nulls_and_booleans() {
    for text in ["", "~", "null", "Null", "NULL", "!!null ''"] {
        assert_eq!(scalar(text), Ok(Value::Null), "{text}");
    }
    for text in [
        "y",
        "Y",
        "yes",
        "Yes",
        "YES",
        "true",
        "True",
        "TRUE",
        "on",
        "On",
        "ON",
        "!!bool 'on'",
    ] {
        assert_eq!(scalar(text), Ok(Value::Bool(true)), "{text}");
    }
    for text in [
        "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF",
    ] {
        assert_eq!(scalar(text), Ok(Value::Bool(false)), "{text}");
    }
    for text in [
        "yEs",
        "tRUE",
        "oN",
        "nULL",
        "'yes'",
        "\"null\"",
        "'~'",
        "''",
        "!!str yes",
        "!!str",
        "! yes",
    ] {
        assert_eq!(scalar(text), Ok(Value::Text), "{text}");
    }
}

#[test]
fn whole_numbers() {
    let table = [
        ("0", 0),
        ("-0", 0),
        ("00", 0),
        ("+5", 5),
        ("42", 42),
        ("1_000", 1_000),
        ("1__0_", 10),
        ("010", 8),
        ("-010", -8),
        ("0o17", 15),
        ("0x1F", 31),
        ("-0X1f", -31),
        ("0b101", 5),
        ("-0b11", -3),
        ("0b-11", -3),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("!!int '7'", 7),
    ];
    for (text, value) in table {
        assert_eq!(scalar(text), Ok(Value::Int(value)), "{text}");
    }
    assert_eq!(scalar("9223372036854775808"), Ok(Value::Large(1 << 63)));
    assert_eq!(scalar("18446744073709551615"), Ok(Value::Large(u64::MAX)));
}

#[test]
fn floats() {
    let table = [
        ("1.5", 1.5),
        ("09", 9.0),
        ("5.", 5.0),
        (".5", 0.5),
        ("-.5", -0.5),
        (".5_0", 0.5),
        ("1_0.5", 10.5),
        ("1e3", 1_000.0),
        ("1.5E-3", 0.0015),
        (".5e+3", 500.0),
        ("18446744073709551616", 18_446_744_073_709_551_616.0),
        ("-9223372036854775809", -9_223_372_036_854_775_809.0),
        (".inf", f64::INFINITY),
        ("+.Inf", f64::INFINITY),
        ("-.INF", f64::NEG_INFINITY),
        ("!!float 3", 3.0),
    ];
    for (text, value) in table {
        assert_eq!(scalar(text), Ok(Value::Float(value)), "{text}");
    }
    assert!(matches!(scalar(".NaN"), Ok(Value::Float(nan)) if nan.is_nan()));
}

#[test]
fn text() {
    let plain = [
        "minute",
        "+",
        "--1",
        "1-1",
        "1.2.3",
        "0x",
        "0b2",
        "0o8",
        "08x",
        "_1",
        ".",
        "._5",
        ".5_",
        ".5e",
        "1e999",
        ".1e999",
        "Infinity",
        "NaN",
        "inf",
        "nan",
        "12:30",
        "12:30:45",
        "2001-01-01",
        "2001-1-1T1:1:1Z",
        "!port 5",
        "!!timestamp 5",
        "'5'",
        "\"0.5\"",
    ];
    for text in plain {
        assert_eq!(scalar(text), Ok(Value::Text), "{text}");
    }
}

#[test]
fn tags_that_do_not_fit() {
    for (text, tag) in [
        ("!!int x", "!!int"),
        ("!!int 1.5", "!!int"),
        ("!!bool 1", "!!bool"),
        ("!!float x", "!!float"),
        ("!!float 18446744073709551615", "!!float"),
        ("!!null x", "!!null"),
        ("!!binary eA==", "!!binary"),
    ] {
        assert_eq!(scalar(text), Err(TagError { tag }), "{text}");
    }
}
