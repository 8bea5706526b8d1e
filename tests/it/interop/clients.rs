//! Real clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_response::Code;
use ratekeeper::wire::pb::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tonic::Code as Grpc;
use tonic::transport::Endpoint;

use super::server::{MESSAGE_BYTES_MAX, Server};
use super::{BOTH, of_users, request, run};

#[test]
fn tonic() {
    for way in BOTH {
        let server = Server::start(way);
        run(async {
            let channel = Endpoint::from_shared(format!("http://{}", server.address))
                .unwrap()
                .connect()
                .await
                .unwrap();
            let mut client = RateLimitServiceClient::new(channel);
            for (users, code) in [
                (vec!["alice"], Code::Ok),
                (vec!["over"], Code::OverLimit),
                (vec!["alice", "over", "later-10"], Code::OverLimit),
                (vec!["later-10"], Code::Ok),
            ] {
                let response = client
                    .should_rate_limit(of_users(&users))
                    .await
                    .unwrap()
                    .into_inner();
                assert_eq!(response.overall_code(), code, "{way:?}: {users:?}");
                assert_eq!(response.statuses.len(), users.len());
            }
            let mut wrong = request("alice");
            wrong.domain.clear();
            let status = client.should_rate_limit(wrong).await.unwrap_err();
            assert_eq!(
                (status.code(), status.message()),
                (Grpc::InvalidArgument, "domain: must not be empty"),
                "{way:?}"
            );
            let large = request(&"x".repeat(MESSAGE_BYTES_MAX));
            let status = client.should_rate_limit(large).await.unwrap_err();
            assert_eq!(status.code(), Grpc::OutOfRange, "{way:?}: {status:?}");
            let calls = (0..500).map(|at| {
                let mut client = client.clone();
                let user = if at % 3 == 0 { "later-20" } else { "alice" };
                async move { client.should_rate_limit(request(user)).await }
            });
            for response in futures_util::future::join_all(calls).await {
                assert_eq!(response.unwrap().into_inner().overall_code(), Code::Ok, "{way:?}");
            }
        });
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A client in another language says what is wrong, if anything is.
fn passes(name: &str, command: &mut Command) {
    for way in BOTH {
        let server = Server::start(way);
        let output = command
            .env("TARGET", server.address.to_string())
            .env("TIMED_OUT", way.timed_out())
            .output()
            .unwrap_or_else(|error| {
                panic!(
                    "{name} does not start: {error}; it is installed by scripts/install-test-tools.sh {name}"
                )
            });
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{name}, {way:?}:\n{out}\n{err}");
        assert!(out.contains("12 cases passed"), "{name}, {way:?}:\n{out}\n{err}");
    }
}

#[test]
fn grpcio() {
    let python: PathBuf = root().join("target/grpcio-venv/bin/python");
    passes(
        "grpcio",
        Command::new(python).arg(root().join("tests/interop/client.py")),
    );
}

#[test]
fn grpc_go() {
    passes("grpc-go", &mut Command::new(root().join("target/grpc-go/client")));
}
