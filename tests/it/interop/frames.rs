//! A call in every form that HTTP/2 and gRPC allow, and in some that they do not.

use h2::Reason;
use http::Method;
use prost::Message as _;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::RateLimitResponse;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tonic::Code as Grpc;

use super::exchange::{Ask, Piece, Seen};
use super::server::{MESSAGE_BYTES_MAX, Server};
use super::{BOTH, Way, asked, framed, of_users, run};

/// A name, what is sent, and the status that comes back.
type Case = (&'static str, Ask, Grpc);

fn cut(bytes: &[u8], step: usize) -> Vec<Piece> {
    let mut pieces: Vec<_> = bytes
        .chunks(step)
        .map(|chunk| Piece::Data(chunk.to_vec()))
        .collect();
    pieces.push(Piece::Last(Vec::new()));
    pieces
}

fn whole() -> Vec<Case> {
    let one = || asked("alice");
    let (head, tail) = (one()[..9].to_vec(), one()[9..].to_vec());
    vec![
        ("one frame", Ask::new(vec![Piece::Last(one())]), Grpc::Ok),
        (
            "an empty frame at the end",
            Ask::new(vec![Piece::Data(one()), Piece::Last(vec![])]),
            Grpc::Ok,
        ),
        (
            "a late end",
            Ask::new(vec![Piece::Data(one()), Piece::Pause, Piece::Last(vec![])]),
            Grpc::Ok,
        ),
        (
            "trailers at the end",
            Ask::new(vec![Piece::Data(one()), Piece::Trailers]),
            Grpc::Ok,
        ),
        (
            "late trailers",
            Ask::new(vec![Piece::Data(one()), Piece::Pause, Piece::Trailers]),
            Grpc::Ok,
        ),
        (
            "empty frames before and between",
            Ask::new(vec![
                Piece::Data(vec![]),
                Piece::Data(head.clone()),
                Piece::Data(vec![]),
                Piece::Last(tail.clone()),
            ]),
            Grpc::Ok,
        ),
        (
            "two frames, late",
            Ask::new(vec![
                Piece::Pause,
                Piece::Data(head),
                Piece::Pause,
                Piece::Last(tail),
            ]),
            Grpc::Ok,
        ),
        ("a byte a frame", Ask::new(cut(&one(), 1)), Grpc::Ok),
        ("three bytes a frame", Ask::new(cut(&one(), 3)), Grpc::Ok),
        (
            "a denied request",
            Ask::new(vec![Piece::Last(asked("over"))]),
            Grpc::Ok,
        ),
        (
            "a waiting decision",
            Ask::new(vec![Piece::Last(asked("later-20"))]),
            Grpc::Ok,
        ),
        (
            "a large request",
            Ask::new(cut(&asked(&"x".repeat(60_000)), 16_384)),
            Grpc::Ok,
        ),
    ]
}

fn answers() -> Vec<Case> {
    let many: Vec<String> = (0..1_000).map(|user| format!("user-{user}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let large = || vec![Piece::Last(framed(&of_users(&many).encode_to_vec()))];
    let narrow = |body, window| Ask {
        window,
        ..Ask::new(body)
    };
    vec![
        ("a large answer", Ask::new(large()), Grpc::Ok),
        (
            "a window of one byte",
            narrow(vec![Piece::Last(asked("alice"))], 1),
            Grpc::Ok,
        ),
        (
            "a large answer, 1 KiB at a time",
            narrow(large(), 1_024),
            Grpc::Ok,
        ),
        (
            "an error needs no window",
            narrow(vec![Piece::Last(framed(&[]))], 0),
            Grpc::InvalidArgument,
        ),
    ]
}

fn not_whole() -> Vec<Case> {
    let one = || asked("alice");
    let mut two = one();
    two.extend_from_slice(&one());
    let mut with_rest = one();
    with_rest.extend_from_slice(&[0, 0]);
    let mut with_nonsense = one();
    with_nonsense.extend_from_slice(&framed(b"\xff\xff"));
    let mut flagged = one();
    flagged[0] = 1;
    let mut wrong_flag = one();
    wrong_flag[0] = 7;
    let short = one()[..20].to_vec();
    let mut large = vec![0];
    large.extend_from_slice(&u32::try_from(MESSAGE_BYTES_MAX + 1).unwrap().to_be_bytes());
    let last = |bytes: Vec<u8>| Ask::new(vec![Piece::Last(bytes)]);
    vec![
        ("two messages", last(two), Grpc::Ok),
        ("a message and a rest", last(with_rest), Grpc::Internal),
        (
            "a message and one that is none",
            last(with_nonsense),
            Grpc::InvalidArgument,
        ),
        ("no message", last(vec![]), Grpc::Internal),
        ("no body", Ask::new(vec![]), Grpc::Internal),
        ("only trailers", Ask::new(vec![Piece::Trailers]), Grpc::Internal),
        ("half a prefix", last(vec![0, 0]), Grpc::Internal),
        ("half a message", last(short), Grpc::Internal),
        (
            "no such message",
            last(framed(b"\xff\xff")),
            Grpc::InvalidArgument,
        ),
        ("an empty message", last(framed(&[])), Grpc::InvalidArgument),
        ("marked as compressed", last(flagged), Grpc::Internal),
        ("a flag that does not exist", last(wrong_flag), Grpc::Internal),
        (
            "a message too large, which need not come",
            Ask::new(vec![Piece::Data(large.clone())]),
            Grpc::OutOfRange,
        ),
        (
            "a message too large",
            last([large, vec![0; 100]].concat()),
            Grpc::OutOfRange,
        ),
    ]
}

fn headers() -> Vec<Case> {
    let ask = || Ask::new(vec![Piece::Last(asked("alice"))]);
    vec![
        ("no te", ask().without("te"), Grpc::Ok),
        (
            "a format",
            ask().header("content-type", "application/grpc+proto"),
            Grpc::Ok,
        ),
        ("identity", ask().header("grpc-encoding", "identity"), Grpc::Ok),
        ("gzip", ask().header("grpc-encoding", "gzip"), Grpc::Unimplemented),
        (
            "accepts gzip",
            ask().header("grpc-accept-encoding", "gzip, identity"),
            Grpc::Ok,
        ),
        ("a time", ask().header("grpc-timeout", "1S"), Grpc::Ok),
        ("no time at all", ask().header("grpc-timeout", "0n"), Grpc::Ok),
        (
            "a time that is none",
            ask().header("grpc-timeout", "soon"),
            Grpc::Ok,
        ),
        (
            "Envoy's",
            ask()
                .header("x-envoy-internal", "true")
                .header("x-forwarded-for", "10.0.0.7")
                .header("x-envoy-expected-rq-timeout-ms", "20")
                .header("grpc-timeout", "20m"),
            Grpc::Ok,
        ),
        (
            "another method of the service",
            Ask {
                path: "/envoy.service.ratelimit.v3.RateLimitService/Should",
                ..ask()
            },
            Grpc::Unimplemented,
        ),
        (
            "another service",
            Ask {
                path: "/other.Service/Method",
                ..ask()
            },
            Grpc::Unimplemented,
        ),
        ("no path at all", Ask { path: "/", ..ask() }, Grpc::Unimplemented),
        (
            "health",
            Ask {
                path: "/grpc.health.v1.Health/Check",
                body: vec![Piece::Last(framed(&[]))],
                ..ask()
            },
            Grpc::Ok,
        ),
        (
            "health of nobody",
            Ask {
                path: "/grpc.health.v1.Health/Check",
                body: cut(&framed(b"\x0a\x06nobody"), 4),
                ..ask()
            },
            Grpc::NotFound,
        ),
    ]
}

fn ask_all(way: Way, cases: &[Case]) -> Vec<Seen> {
    let server = Server::start(way);
    run(async {
        let mut answers = Vec::new();
        for (name, ask, expected) in cases {
            let seen = ask.send(server.address).await;
            let seen = seen.unwrap_or_else(|reason| panic!("{way:?}: {name}: reset: {reason}"));
            assert_eq!(seen.code(), Some(*expected as i32), "{way:?}: {name}: {seen:?}");
            answers.push(seen);
        }
        answers
    })
}

fn both_agree(cases: &[Case]) {
    let [tonic, below] = BOTH.map(|way| ask_all(way, cases));
    for ((name, ..), (tonic, below)) in cases.iter().zip(tonic.iter().zip(&below)) {
        assert_eq!(below.comparable(), tonic.comparable(), "{name}");
    }
}

#[test]
fn whole_messages_however_they_come() {
    both_agree(&whole());
}

#[test]
fn answers_fit_the_callers_window() {
    let cases = answers();
    both_agree(&cases);
    let server = Server::start(Way::Below);
    let seen = run(cases[1].1.send(server.address)).unwrap();
    assert!(seen.frames > 20, "{} frames", seen.frames);
    let answer = RateLimitResponse::decode(&seen.body[5..]).unwrap();
    assert_eq!(answer.overall_code(), Code::Ok);
}

#[test]
fn what_is_not_one_message() {
    both_agree(&not_whole());
}

#[test]
fn headers_and_paths() {
    both_agree(&headers());
}

/// tonic's server looks at neither; gRPC's own servers do.
#[test]
fn what_is_no_grpc_call_gets_http_s_answer() {
    let ask = || Ask::new(vec![Piece::Last(asked("alice"))]);
    let server = Server::start(Way::Below);
    for (name, ask, expected) in [
        ("no content type", ask().without("content-type"), 415),
        ("json", ask().header("content-type", "application/json"), 415),
        (
            "grpc-web",
            ask().header("content-type", "application/grpc-web"),
            415,
        ),
        (
            "get",
            Ask {
                method: Method::GET,
                ..ask()
            },
            405,
        ),
    ] {
        let seen = run(ask.send(server.address)).unwrap();
        assert_eq!(seen.status, expected, "{name}: {seen:?}");
        assert!(
            seen.body.is_empty() && seen.trailers.is_none(),
            "{name}: {seen:?}"
        );
    }
}

/// Headers above the bound are refused with the stream, not with the connection.
#[test]
fn headers_have_a_bound() {
    for way in BOTH {
        let server = Server::start(way);
        let long = Ask::new(vec![Piece::Last(asked("alice"))]).header("x-long", &"x".repeat(20_000));
        let seen = run(long.send(server.address));
        let refused = match &seen {
            Ok(seen) => seen.status == 431,
            Err(reason) => *reason == Reason::REFUSED_STREAM || *reason == Reason::PROTOCOL_ERROR,
        };
        assert!(refused, "{way:?}: {seen:?}");
    }
}

#[test]
fn words_of_errors_are_percent_encoded() {
    let mut request = of_users(&["alice"]);
    request.descriptors[0].entries[0].key = "é".repeat(600);
    let ask = Ask::new(vec![Piece::Last(framed(&request.encode_to_vec()))]);
    let [tonic, below] = BOTH.map(|way| run(ask.send(Server::start(way).address)).unwrap());
    assert_eq!(below.headers["grpc-message"], tonic.headers["grpc-message"]);
    assert!(below.headers["grpc-message"].starts_with("descriptors[0].entries[0].key:%20"));
    assert!(below.trailers.is_none(), "errors are trailers only");
}
