//! The gRPC and JSON doors of the real binary: bounds, codes, health, reflection, drain.

use std::time::Duration;

use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use ratekeeper::wire::pb::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{
    Entry, RateLimitOverride,
};
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code as Grpc, Status};

use crate::support::{self, service::Service};

const POLICY: &str = "
domain: wire
descriptors:
  - key: user
    rate_limit: {unit: hour, requests_per_unit: 3}
  - key: open
";

fn request(entries: &[(&str, &str)]) -> RateLimitRequest {
    RateLimitRequest {
        domain: "wire".to_owned(),
        descriptors: vec![descriptor(entries)],
        hits_addend: 0,
    }
}

fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
    let entry = |(key, value): &(&str, &str)| Entry {
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    RateLimitDescriptor {
        entries: entries.iter().map(entry).collect(),
        ..RateLimitDescriptor::default()
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

async fn channel(service: &Service) -> Channel {
    let address = format!("http://127.0.0.1:{}", service.grpc_port());
    Endpoint::from_shared(address).unwrap().connect().await.unwrap()
}

async fn ask(
    client: &mut RateLimitServiceClient<Channel>,
    it: RateLimitRequest,
) -> Result<RateLimitResponse, Status> {
    client
        .should_rate_limit(it)
        .await
        .map(tonic::Response::into_inner)
}

#[test]
fn every_bound_is_an_invalid_argument_with_the_fields_path() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    run(async {
        let mut client =
            RateLimitServiceClient::new(channel(&service).await).max_encoding_message_size(64 << 20);
        let long_key = "k".repeat(1_025);
        let long_value = "v".repeat(65_537);
        let with = |change: &dyn Fn(&mut RateLimitRequest)| {
            let mut it = request(&[("user", "x")]);
            change(&mut it);
            it
        };
        let cases = [
            (with(&|it| it.domain.clear()), "domain: must not be empty"),
            (
                with(&|it| it.domain = long_key.clone()),
                "domain: 1025 bytes, at most 1024",
            ),
            (
                with(&|it| it.descriptors.clear()),
                "descriptors: must not be empty",
            ),
            (
                with(&|it| it.descriptors = vec![descriptor(&[("user", "x")]); 1_001]),
                "descriptors: 1001 descriptors",
            ),
            (
                with(&|it| it.descriptors.push(descriptor(&[]))),
                "descriptors[1].entries: must not be empty",
            ),
            (
                with(&|it| it.descriptors[0] = descriptor(&[("a", "b"); 101])),
                "descriptors[0].entries: 101 entries",
            ),
            (
                request(&[("user", "x"), ("", "y")]),
                "descriptors[0].entries[1].key: must not be empty",
            ),
            (
                request(&[(&long_key, "")]),
                "descriptors[0].entries[0].key: 1025 bytes",
            ),
            (
                request(&[("user", &long_value)]),
                "descriptors[0].entries[0].value: 65537 bytes",
            ),
        ];
        for (it, expected) in cases {
            let status = ask(&mut client, it).await.unwrap_err();
            assert_eq!(status.code(), Grpc::InvalidArgument, "{expected}");
            assert!(
                status.message().starts_with(expected),
                "{} is not {expected}",
                status.message()
            );
        }
        let large = with(&|it| it.descriptors = vec![descriptor(&[("user", &"v".repeat(65_000))]); 70]);
        assert_eq!(
            ask(&mut client, large).await.unwrap_err().code(),
            Grpc::OutOfRange
        );
        // The longest values are counted, each under its own hash.
        for value in ["v".repeat(65_536), format!("{}w", "v".repeat(65_535))] {
            for left in [2, 1, 0] {
                let response = ask(&mut client, request(&[("user", &value)])).await.unwrap();
                assert_eq!(response.statuses[0].limit_remaining, left);
            }
            let denied = ask(&mut client, request(&[("user", &value)])).await.unwrap();
            assert_eq!(denied.overall_code(), Code::OverLimit);
        }
        let most = with(&|it| it.descriptors = vec![descriptor(&[("open", "x")]); 1_000]);
        assert_eq!(ask(&mut client, most).await.unwrap().statuses.len(), 1_000);
    });
}

/// The reference server ends its process on such a request.
#[test]
fn bug_5_1_an_override_of_unknown_unit_does_not_end_the_process() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    run(async {
        let mut client = RateLimitServiceClient::new(channel(&service).await);
        for unit in [0, 8, 7, -1, i32::MAX] {
            let mut it = request(&[("user", &format!("u{unit}"))]);
            it.descriptors[0].limit = Some(RateLimitOverride {
                requests_per_unit: 1,
                unit,
                unit_multiplier: None,
            });
            let response = ask(&mut client, it).await.unwrap();
            let limit = response.statuses[0].current_limit.clone().unwrap();
            assert_eq!(
                limit.requests_per_unit, 3,
                "unit {unit}: the configured limit holds"
            );
        }
    });
    assert!(
        service
            .get("/metrics")
            .body
            .contains("ratekeeper_overrides_ignored_total 5")
    );
}

#[test]
fn health_and_reflection_answer() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    run(async {
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        let mut health = HealthClient::new(channel(&service).await);
        for (name, expected) in [("", 1), ("ratelimit", 1)] {
            let check = health
                .check(HealthCheckRequest {
                    service: name.to_owned(),
                })
                .await
                .unwrap();
            assert_eq!(check.into_inner().status, expected, "{name:?}");
        }
        let unknown = health
            .check(HealthCheckRequest {
                service: "nobody".to_owned(),
            })
            .await;
        assert_eq!(unknown.unwrap_err().code(), Grpc::NotFound);

        use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_response::MessageResponse,
        };
        let mut reflection = ServerReflectionClient::new(channel(&service).await);
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut answers = reflection
            .server_reflection_info(tokio_stream::once(list))
            .await
            .unwrap()
            .into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(services)) = answer.message_response else {
            panic!("no list of services: {answer:?}");
        };
        let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
        assert!(
            names
                .iter()
                .any(|name| name == "envoy.service.ratelimit.v3.RateLimitService"),
            "{names:?}"
        );
        assert!(
            names.iter().any(|name| name == "grpc.health.v1.Health"),
            "{names:?}"
        );
    });
}

#[test]
fn json_answers_are_the_references_codes() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    let ok = r#"{"domain":"wire","descriptors":[{"entries":[{"key":"user","value":"j"}]}]}"#;
    for left in [2, 1, 0] {
        let response = service.ask(ok);
        assert_eq!(response.status, 200, "{left} left");
    }
    let denied = service.ask(ok);
    assert_eq!(denied.status, 429);
    let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
    assert_eq!(body["overallCode"], "OVER_LIMIT");
    assert_eq!(
        body["statuses"][0]["currentLimit"],
        serde_json::json!({"requestsPerUnit": 3, "unit": "HOUR"})
    );
    assert_eq!(body["statuses"][0]["durationUntilReset"], "3600s");
    for (bad, expected) in [
        ("", "EOF"),
        ("{", "EOF"),
        ("[]", "expected"),
        (r#"{"domain":"wire","nonsense":1}"#, "nonsense"),
        (
            r#"{"domain":"wire","descriptors":[{"entries":[{"key":"user","value":1}]}]}"#,
            "string",
        ),
        (r#"{"domain":"","descriptors":[]}"#, "domain: must not be empty"),
        (r#"{"domain":"wire"} x"#, "trailing"),
    ] {
        let response = service.ask(bad);
        assert_eq!(response.status, 400, "{bad}");
        assert!(response.body.contains(expected), "{bad}: {}", response.body);
    }
    let snake = r#"{"domain":"wire","hits_addend":2,"descriptors":[{"entries":[{"key":"user","value":"s"}],
        "hits_addend":"3","is_negative_hits":false,"limit":{"requests_per_unit":9,"unit":"DAY","unitMultiplier":2}}]}"#;
    let body: serde_json::Value = serde_json::from_str(&service.ask(snake).body).unwrap();
    assert_eq!(body["statuses"][0]["limitRemaining"], 6);
    assert_eq!(
        body["statuses"][0]["currentLimit"],
        serde_json::json!({"requestsPerUnit": 9, "unit": "DAY", "unitMultiplier": 2})
    );
}

#[test]
fn sigterm_says_not_serving_first_and_ends_with_zero() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let mut service = Service::start(dir.path(), &[("RATEKEEPER_SHUTDOWN_DRAIN_DELAY", "1s")]);
    run(async {
        use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
        let mut client = RateLimitServiceClient::new(channel(&service).await);
        let mut health = HealthClient::new(channel(&service).await);
        service.terminate();
        support::eventually("readiness falls", Duration::from_secs(1), || {
            service.get("/readyz").status == 503
        });
        assert_eq!(service.get("/healthcheck").status, 500);
        assert_eq!(service.get("/livez").status, 200, "liveness depends on nothing");
        for name in ["", "ratelimit"] {
            let check = health
                .check(HealthCheckRequest {
                    service: name.to_owned(),
                })
                .await
                .unwrap();
            assert_eq!(check.into_inner().status, 2, "{name:?} is not NOT_SERVING");
        }
        let response = ask(&mut client, request(&[("user", "late")])).await.unwrap();
        assert_eq!(response.overall_code(), Code::Ok, "it serves on while draining");
        let again = channel(&service).await;
        let mut client = RateLimitServiceClient::new(again);
        assert!(
            ask(&mut client, request(&[("user", "late")])).await.is_ok(),
            "new connections as well"
        );
    });
    assert!(service.wait_exit(Duration::from_secs(8)).success());
}

#[test]
fn a_unix_socket_serves_and_goes_with_the_process() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let sockets = tempfile::tempdir().unwrap();
    let path = sockets.path().join("grpc.sock");
    let mut service = Service::start(
        dir.path(),
        &[
            ("GRPC_UDS", path.to_str().unwrap()),
            ("RATEKEEPER_SHUTDOWN_DRAIN_DELAY", "10ms"),
        ],
    );
    run(async {
        let address = format!("unix:{}", path.display());
        let channel = Endpoint::from_shared(address).unwrap().connect().await.unwrap();
        let mut client = RateLimitServiceClient::new(channel);
        assert_eq!(
            ask(&mut client, request(&[("user", "u")]))
                .await
                .unwrap()
                .statuses[0]
                .limit_remaining,
            2
        );
    });
    service.terminate();
    assert!(service.wait_exit(Duration::from_secs(8)).success());
    assert!(!path.exists());
}

/// A message as bytes, to send what no generated type can hold.
#[derive(Default)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = RateLimitResponse;
    type Encoder = RawEncoder;
    type Decoder =
        <tonic_prost::ProstCodec<RateLimitResponse, RateLimitResponse> as tonic::codec::Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstCodec::<RateLimitResponse, RateLimitResponse>::default().decoder()
    }
}

struct RawEncoder;

impl tonic::codec::Encoder for RawEncoder {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut as _;
        buffer.put_slice(&item);
        Ok(())
    }
}

/// Envoy sends header values as they come. A refused message is a request without any limit.
#[test]
fn values_that_are_not_utf_8_are_limited_like_others() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    run(async {
        let mut client = tonic::client::Grpc::new(channel(&service).await);
        for value in [&b"mallory\xff"[..], b"mallory\xfe"] {
            for expected in [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit, Code::OverLimit] {
                let mut entry = vec![0x0a, 4, b'u', b's', b'e', b'r', 0x12, value.len() as u8];
                entry.extend_from_slice(value);
                let mut descriptor = vec![0x0a, entry.len() as u8];
                descriptor.extend_from_slice(&entry);
                let mut message = vec![0x0a, 4, b'w', b'i', b'r', b'e', 0x12, descriptor.len() as u8];
                message.extend_from_slice(&descriptor);
                client.ready().await.unwrap();
                let path = http::uri::PathAndQuery::from_static(
                    "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
                );
                let response = client
                    .unary(tonic::Request::new(message), path, RawCodec)
                    .await
                    .unwrap();
                assert_eq!(response.into_inner().overall_code(), expected, "{value:?}");
            }
        }
    });
}

/// A client that sends half a request and waits must not hold a connection for ever, nor keep others out.
#[test]
fn idle_http_connections_are_bounded() {
    let dir = support::policies(&[("wire.yaml", POLICY)]);
    let service = Service::start(dir.path(), &[]);
    let held: Vec<_> = (0..520)
        .map(|_| std::net::TcpStream::connect(service.http_address()).unwrap())
        .collect();
    support::eventually("the last ones are closed", Duration::from_secs(5), || {
        use std::io::Read as _;
        let mut last = held.last().unwrap();
        last.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        matches!(last.read(&mut [0]), Ok(0)) || last.peer_addr().is_err()
    });
    drop(held);
    support::eventually("there is room again", Duration::from_secs(5), || {
        std::panic::catch_unwind(|| service.get("/livez").status == 200).unwrap_or(false)
    });
}
