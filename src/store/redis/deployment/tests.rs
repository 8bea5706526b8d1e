//! Every form of a list, and what is refused.

use super::*;

fn listed(kind: Kind, url: &str) -> Listed {
    Listed {
        kind,
        address: Address {
            url: url.to_owned(),
            ..Address::default()
        },
        ..Listed::default()
    }
}

/// What a server is connected with: its name, `+tls`, user, password and database.
fn said(server: &Server) -> String {
    let info = server.address.parse().expect("an address");
    let settings = info.redis_settings();
    let tls = matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    format!(
        "{}{} {}:{} /{}",
        server.name(),
        if tls { "+tls" } else { "" },
        settings.username().unwrap_or_default(),
        settings.password().unwrap_or_default(),
        settings.db()
    )
}

fn sentinels(listed: &Listed) -> (String, Vec<String>, String) {
    match Deployment::of(listed) {
        Ok(Deployment::Sentinel {
            master,
            sentinels,
            primary,
        }) => (
            master,
            sentinels.iter().map(said).collect(),
            said(&primary.at("10.0.0.9", 6379)),
        ),
        other => panic!("{other:?}"),
    }
}

fn seeds(listed: &Listed) -> Vec<Server> {
    match Deployment::of(listed) {
        Ok(Deployment::Cluster { seeds }) => seeds,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_single_server_is_any_address() {
    for (url, name) in [
        ("h:1", "h:1"),
        ("/run/r.sock", "/run/r.sock"),
        ("redis://u:a,b@h:1/3", "h:1"),
        ("[::1]:6379", "[::1]:6379"),
        ("rediss://[::1]:6379", "[::1]:6379"),
    ] {
        match Deployment::of(&listed(Kind::Single, url)) {
            Ok(Deployment::Single(server)) => assert_eq!(server.name(), name),
            other => panic!("{url}: {other:?}"),
        }
    }
    for list in ["h:1,h:2", "p,s:1,s:2", "redis://h:1,redis://h:2", "redis://h,i:2"] {
        let error = Deployment::of(&listed(Kind::Single, list)).expect_err(list);
        assert_eq!(error, AddressError::List, "{list}");
    }
}

#[test]
fn sentinels_as_the_reference_server_lists_them() {
    let mut listed = listed(Kind::Sentinel, "my-primary, s1:26379,[::1]:26380 ");
    let (master, all, primary) = sentinels(&listed);
    assert_eq!(master, "my-primary");
    assert_eq!(all, ["s1:26379 : /0", "[::1]:26380 : /0"]);
    assert_eq!(primary, "10.0.0.9:6379 : /0");

    listed.address.auth = "app:hunter2".to_owned();
    listed.sentinel_auth = "watch:hunter3".to_owned();
    listed.address.tls = true;
    let (_, all, primary) = sentinels(&listed);
    assert_eq!(
        all,
        [
            "s1:26379+tls watch:hunter3 /0",
            "[::1]:26380+tls watch:hunter3 /0"
        ]
    );
    assert_eq!(primary, "10.0.0.9:6379+tls app:hunter2 /0");
}

#[test]
fn urls_of_sentinels_hold_their_own_passwords_and_the_primarys_database() {
    let url = "p,rediss://w:one@s1:1/2,rediss://:two@s2:2/2";
    let (_, all, primary) = sentinels(&listed(Kind::Sentinel, url));
    assert_eq!(all, ["s1:1+tls w:one /0", "s2:2+tls :two /0"]);
    assert_eq!(primary, "10.0.0.9:6379+tls : /2");
    let (_, all, primary) = sentinels(&listed(Kind::Sentinel, "p,rediss://s1:1,s2:2"));
    assert_eq!(all, ["s1:1+tls : /0", "s2:2+tls : /0"]);
    assert_eq!(primary, "10.0.0.9:6379+tls : /0");
}

#[test]
fn the_file_with_the_password_is_that_of_the_servers_with_counters() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "app:hunter2").expect("written");
    for (kind, url) in [
        (Kind::Single, "h:1"),
        (Kind::Sentinel, "p,h:1"),
        (Kind::Cluster, "h:1,h:2"),
    ] {
        let mut listed = listed(kind, url);
        listed.auth_file = Some(file.path().to_owned());
        let deployment = Deployment::of(&listed).expect("a deployment");
        assert_eq!(deployment.check(), Ok(()), "{url}");
        let password = |server: &Server| {
            let info = server.connection_info().expect("an address");
            info.redis_settings().password().map(str::to_owned)
        };
        match &deployment {
            Deployment::Single(server) => assert_eq!(password(server).as_deref(), Some("hunter2")),
            Deployment::Sentinel {
                sentinels, primary, ..
            } => {
                assert_eq!(password(&primary.at("h", 3)).as_deref(), Some("hunter2"));
                assert_eq!(password(&sentinels[0]), None);
            }
            Deployment::Cluster { seeds } => {
                assert_eq!(password(&seeds[1].at("h", 3)).as_deref(), Some("hunter2"));
            }
        }
        listed.auth_file = Some(PathBuf::from("/no/such/file"));
        let gone = Deployment::of(&listed).map(|it| it.check());
        assert!(matches!(gone, Ok(Err(ServerError::File { .. }))), "{gone:?}");
    }
}

#[test]
fn a_cluster_is_a_list_of_nodes_that_let_others_in_alike() {
    let plain = seeds(&listed(Kind::Cluster, "h:1, H:2,[::1]:7000"));
    assert_eq!(
        plain.iter().map(said).collect::<Vec<_>>(),
        ["h:1 : /0", "H:2 : /0", "[::1]:7000 : /0"]
    );
    assert_eq!(said(&plain[0].at("fe80::1", 7001)), "[fe80::1]:7001 : /0");
    let one = seeds(&listed(Kind::Cluster, "rediss://u:p@h:1"));
    assert_eq!(said(&one[0].at("h2", 9)), "h2:9+tls u:p /0");
    let mut list = listed(Kind::Cluster, "redis://u:p@h:1,h:2");
    list.address.auth = "a:b".to_owned();
    let all = seeds(&list);
    assert_eq!(
        all.iter().map(said).collect::<Vec<_>>(),
        ["h:1 a:b /0", "h:2 a:b /0"]
    );
}

#[test]
fn another_address_keeps_certificates() {
    let mut listed = listed(Kind::Cluster, "rediss://h:1");
    listed.tls.ca = Some(PathBuf::from("/no/such/ca"));
    let error = seeds(&listed)[0].at("::1", 7000).connection_info();
    assert!(
        matches!(&error, Err(ServerError::File { path, .. }) if path == "/no/such/ca"),
        "{error:?}"
    );
}

#[test]
fn what_can_not_work_is_refused_without_being_repeated() {
    let part = |place, error| AddressError::Part {
        place,
        error: Box::new(error),
    };
    let cases = [
        (Kind::Sentinel, "", AddressError::Name),
        (Kind::Sentinel, "hunter2:26379,h:1", AddressError::Name),
        (Kind::Sentinel, "redis://:hunter2@h:1,h:2", AddressError::Name),
        (Kind::Sentinel, "hunter2", AddressError::NoSentinels),
        (Kind::Sentinel, "p,", AddressError::NoSentinels),
        (Kind::Sentinel, "p,h:1,", part(3, AddressError::Empty)),
        (Kind::Sentinel, "p,h:1,,h:2", part(3, AddressError::Empty)),
        (Kind::Sentinel, "p,h:1,hunter2", part(3, AddressError::Malformed)),
        (
            Kind::Sentinel,
            "p,h:1,redis://:hunter2@H:1",
            part(3, AddressError::Twice),
        ),
        (Kind::Sentinel, "p,/run/hunter2", part(2, AddressError::Socket)),
        (Kind::Sentinel, "p,redis://h:1/1,h:2", AddressError::MixedDb),
        (
            Kind::Sentinel,
            "p,rediss://h:1,redis://h:2",
            AddressError::MixedTls,
        ),
        (Kind::Cluster, "", part(1, AddressError::Empty)),
        (Kind::Cluster, " , ", part(1, AddressError::Empty)),
        (Kind::Cluster, "h:1,h:1", part(2, AddressError::Twice)),
        (
            Kind::Cluster,
            "h:1,unix:///hunter2",
            part(2, AddressError::Socket),
        ),
        (Kind::Cluster, "h:1,redis://h:2/3", AddressError::ClusterDb),
        (
            Kind::Cluster,
            "redis://:hunter2@h:1,redis://:hunter3@h:2",
            AddressError::MixedAuth,
        ),
        (Kind::Cluster, "redis://:hunter2@h:1,h:2", AddressError::MixedAuth),
        (
            Kind::Cluster,
            "rediss://h:1#insecure",
            part(1, AddressError::Insecure),
        ),
        (Kind::Single, "", AddressError::Malformed),
    ];
    for (kind, url, expected) in cases {
        let error = Deployment::of(&listed(kind, url)).expect_err(url);
        assert_eq!(error, expected, "{url}");
        let text = error.to_string();
        assert!(
            text.starts_with("redis url: ") && !text.contains("hunter"),
            "{text}"
        );
    }
    let mut socket = listed(Kind::Cluster, "h:1");
    socket.address.socket_type = "unix".to_owned();
    let error = Deployment::of(&socket).expect_err("a socket");
    assert_eq!(error, part(1, AddressError::Socket));
    let shown = format!(
        "{:?}",
        Deployment::of(&listed(Kind::Cluster, "redis://:hunter2@h:1"))
    );
    assert!(!shown.contains("hunter2"), "{shown}");
}
