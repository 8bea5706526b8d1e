//! A real Envoy as a child process, with a configuration made from what one test is about: the rate limits of its routes.
//!
//! It has a listener for HTTP, one that limits TCP connections, and a backend that answers 200 to everything. Envoy chooses
//! the ports (the backend is a Unix socket), so that nothing can clash.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::http::{self, Connection, Response};
use super::process::Process;

const READY_WITHIN: Duration = Duration::from_secs(20);
const RATE_LIMIT: &str = "envoy.filters.http.ratelimit";

/// A configuration in the making.
#[derive(Debug)]
pub struct Config {
    domain: String,
    services: Vec<u16>,
    health_checks: bool,
    routes: Vec<Value>,
    options: Map<String, Value>,
    filters: Vec<Value>,
    response_headers: Vec<Value>,
    access_log: Option<String>,
    connection_descriptors: Option<Value>,
}

impl Config {
    /// Envoy asks the services on these ports about `domain`. It denies when it gets no answer, so that a lost question
    /// shows as a 500, and waits long for one, so that a busy machine is no failure.
    pub fn new(domain: &str, services: &[u16]) -> Self {
        let options = json!({
            "domain": domain,
            "timeout": "5s",
            "failure_mode_deny": true,
            "enable_x_ratelimit_headers": "DRAFT_VERSION_03",
            "enable_retry_after_header": true,
            "rate_limit_service": rate_limit_service(),
        });
        Self {
            domain: domain.to_owned(),
            services: services.to_vec(),
            health_checks: false,
            routes: Vec::new(),
            options: options.as_object().cloned().unwrap_or_default(),
            filters: Vec::new(),
            response_headers: Vec::new(),
            access_log: None,
            connection_descriptors: None,
        }
    }

    /// A route with `rate_limits` in the route itself, as most users have them. Routes match in the order of the calls.
    pub fn route(mut self, prefix: &str, rate_limits: Value) -> Self {
        self.routes.push(json!({
            "match": { "prefix": prefix },
            "route": { "cluster": "backend", "rate_limits": rate_limits },
        }));
        self
    }

    /// A route with `rate_limits` in its configuration of the filter: only there does Envoy honour `hits_addend`.
    pub fn metered_route(mut self, prefix: &str, rate_limits: Value) -> Self {
        self.routes.push(json!({
            "match": { "prefix": prefix },
            "route": { "cluster": "backend" },
            "typed_per_filter_config": { RATE_LIMIT: {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
                "rate_limits": rate_limits,
            }},
        }));
        self
    }

    /// Sets a field of the rate limit filter.
    pub fn option(mut self, name: &str, value: Value) -> Self {
        self.options.insert(name.to_owned(), value);
        self
    }

    /// Puts another HTTP filter before the rate limit filter.
    pub fn filter(mut self, filter: Value) -> Self {
        self.filters.push(filter);
        self
    }

    /// Adds a header, made by Envoy's formatter, to the answers of the backend.
    pub fn response_header(mut self, name: &str, format: &str) -> Self {
        self.response_headers
            .push(json!({ "header": { "key": name, "value": format } }));
        self
    }

    /// Writes a line in this format to [`Envoy::output`] for every HTTP request.
    pub fn access_log(mut self, format: &str) -> Self {
        self.access_log = Some(format!("{format}\n"));
        self
    }

    /// Checks the health of the services by gRPC, every 0.25 s.
    pub fn health_checks(mut self) -> Self {
        self.health_checks = true;
        self
    }

    /// Limits new connections to [`Envoy::tcp`] by these descriptors.
    pub fn connection_descriptors(mut self, descriptors: Value) -> Self {
        self.connection_descriptors = Some(descriptors);
        self
    }

    /// Starts Envoy and waits until it serves.
    pub fn start(self) -> Envoy {
        let dir = tempfile::tempdir().expect("no temporary directory");
        let config = dir.path().join("envoy.json");
        let text = serde_json::to_string_pretty(&self.build(&dir.path().join("backend.sock")));
        std::fs::write(&config, text.expect("a JSON value is printable"))
            .expect("can't write Envoy's configuration");
        Envoy::start(&config, dir)
    }

    fn build(&self, backend: &Path) -> Value {
        let backend_address = json!({ "pipe": { "path": backend } });
        let any_port = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        let mut listeners = vec![
            listener("http", &any_port, &[self.http_filter()]),
            listener("backend", &backend_address, &[backend_filter()]),
        ];
        if let Some(descriptors) = &self.connection_descriptors {
            listeners.push(listener(
                "tcp",
                &any_port,
                &[self.tcp_filter(descriptors), tcp_proxy()],
            ));
        }
        json!({
            "admin": { "address": any_port },
            "static_resources": {
                "listeners": listeners,
                "clusters": [self.service_cluster(), cluster("backend", &[backend_address])],
            },
        })
    }

    fn http_filter(&self) -> Value {
        let mut rate_limit = self.options.clone();
        rate_limit.insert(
            "@type".to_owned(),
            json!("type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit"),
        );
        let mut filters = self.filters.clone();
        filters.push(json!({ "name": RATE_LIMIT, "typed_config": rate_limit }));
        let mut manager = connection_manager("http", &self.routes, filters);
        manager["typed_config"]["route_config"]["response_headers_to_add"] = json!(self.response_headers);
        if let Some(format) = &self.access_log {
            manager["typed_config"]["access_log"] = json!([{
                "name": "envoy.access_loggers.stdout",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                    "log_format": { "text_format_source": { "inline_string": format } },
                },
            }]);
        }
        manager
    }

    fn tcp_filter(&self, descriptors: &Value) -> Value {
        json!({ "name": "envoy.filters.network.ratelimit", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.ratelimit.v3.RateLimit",
            "stat_prefix": "tcp",
            "domain": self.domain,
            "descriptors": descriptors,
            "timeout": "5s",
            "failure_mode_deny": true,
            "rate_limit_service": rate_limit_service(),
        }})
    }

    fn service_cluster(&self) -> Value {
        let addresses: Vec<Value> = self
            .services
            .iter()
            .map(|port| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } }))
            .collect();
        let mut service = cluster("ratekeeper", &addresses);
        service["typed_extension_protocol_options"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": { "http2_protocol_options": {} },
        }});
        // Panic mode, for a cluster with half of its hosts gone, would send requests to the dead half.
        service["common_lb_config"] = json!({ "healthy_panic_threshold": { "value": 0 } });
        if self.health_checks {
            service["health_checks"] = json!([{
                "interval": "0.25s",
                "no_traffic_interval": "0.25s",
                "timeout": "2s",
                "healthy_threshold": 1,
                "unhealthy_threshold": 1,
                "grpc_health_check": { "service_name": "ratelimit" },
            }]);
        }
        service
    }
}

fn rate_limit_service() -> Value {
    json!({ "transport_api_version": "V3", "grpc_service": { "envoy_grpc": { "cluster_name": "ratekeeper" } } })
}

fn listener(name: &str, address: &Value, filters: &[Value]) -> Value {
    json!({ "name": name, "address": address, "filter_chains": [{ "filters": filters }] })
}

fn cluster(name: &str, addresses: &[Value]) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "endpoint": { "address": address } }))
        .collect();
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] },
    })
}

fn connection_manager(name: &str, routes: &[Value], mut filters: Vec<Value>) -> Value {
    filters.push(json!({ "name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    }}));
    json!({ "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "use_remote_address": true,
        "http_filters": filters,
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }] },
    }})
}

/// Answers 200 to everything, and gives a header `x-cost` of the request back, as a backend that knows its own cost would.
fn backend_filter() -> Value {
    let route = json!({
        "match": { "prefix": "/" },
        "direct_response": { "status": 200, "body": { "inline_string": "backend" } },
        "response_headers_to_add": [{ "header": { "key": "x-cost", "value": "%REQ(x-cost)%" } }],
    });
    connection_manager("backend", &[route], Vec::new())
}

fn tcp_proxy() -> Value {
    json!({ "name": "envoy.filters.network.tcp_proxy", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "tcp",
        "cluster": "backend",
    }})
}

/// A running Envoy; killed when dropped.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    _dir: TempDir,
}

impl Envoy {
    /// Starts Envoy with a configuration file whose admin port is 0; `dir` is its place for files.
    pub fn start(config: &Path, dir: TempDir) -> Self {
        let admin_file = dir.path().join("admin");
        let mut command = Command::new(binary());
        // Without hot restart there is no shared memory, and any number of Envoys can run side by side.
        command.args([
            "--disable-hot-restart",
            "--concurrency",
            "2",
            "--log-level",
            "warning",
        ]);
        command
            .arg("--config-path")
            .arg(config)
            .arg("--admin-address-path")
            .arg(&admin_file);
        let mut process = Process::spawn("envoy", dir.path(), &mut command);
        let mut admin = None;
        let ready = || {
            admin = std::fs::read_to_string(&admin_file)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            admin.is_some_and(|admin| {
                http::get(admin, "/ready", &[]).is_ok_and(|response| response.status == 200)
            })
        };
        if let Err(output) = process.wait_ready(READY_WITHIN, ready) {
            panic!("envoy ended instead of serving:\n{output}");
        }
        let admin = admin.expect("envoy is ready, so it has an admin port");
        Self {
            process,
            admin,
            _dir: dir,
        }
    }

    /// The listener whose requests are limited.
    pub fn http(&self) -> SocketAddr {
        self.listener("http")
    }

    /// The listener whose connections are limited.
    pub fn tcp(&self) -> SocketAddr {
        self.listener("tcp")
    }

    /// The address of a listener, as Envoy reports it.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let answer = self.admin("/listeners?format=json");
        let answer: Value = serde_json::from_str(&answer).expect("/listeners is not JSON");
        let find = || {
            let listeners = answer["listener_statuses"].as_array()?;
            let socket = &listeners.iter().find(|listener| listener["name"] == name)?["local_address"]["socket_address"];
            format!("{}:{}", socket["address"].as_str()?, socket["port_value"])
                .parse()
                .ok()
        };
        find().unwrap_or_else(|| panic!("no listener {name} in {answer}"))
    }

    /// A new connection to the HTTP listener.
    pub fn connect(&self) -> Connection {
        Connection::open(self.http()).expect("can't connect to envoy")
    }

    /// One of Envoy's own statistics; 0 if it does not exist yet.
    pub fn stat(&self, name: &str) -> u64 {
        let answer = self.admin(&format!("/stats?filter=^{name}$"));
        answer
            .trim()
            .rsplit(' ')
            .next()
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// How many requests the service on this port has got, health checks not included.
    pub fn requests_to(&self, port: u16) -> u64 {
        let prefix = format!("ratekeeper::127.0.0.1:{port}::rq_total::");
        let answer = self.admin("/clusters");
        let value = answer.lines().find_map(|line| line.strip_prefix(&prefix));
        value
            .and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {prefix} in {answer}"))
    }

    /// What Envoy has written, access log included.
    pub fn output(&self) -> String {
        self.process.output()
    }

    fn admin(&self, path: &str) -> String {
        let response: Response =
            http::get(self.admin, path, &[]).unwrap_or_else(|error| panic!("{path}: {error}"));
        response.body
    }
}

/// Envoy's program; panics if it is not installed.
pub fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy-venv/bin/envoy");
    assert!(
        path.exists(),
        "{} is missing; `make test-tools` installs it",
        path.display()
    );
    path
}
