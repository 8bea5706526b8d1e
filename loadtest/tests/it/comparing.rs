//! `rk-compare` by itself: what it runs, what it writes, and that nothing is left of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const NOOP: &str = env!("CARGO_BIN_EXE_rk-noop");

const SCENARIOS: &str = r#"
[[scenario]]
name = "closed"
title = "one <descriptor>"
mix = [{ descriptors = ["id=user-{key:8}"] }]

[[scenario]]
name = "many"
mix = [{ descriptors = ["id=user-{key:4}{n:2}"], repeat = 100, keys = 10 }]
instances = 2
in_flight = 2
servers = ["one"]

[[scenario]]
name = "half"
mix = [{ descriptors = ["id=user-{key:8}"] }]
rate_of_max = 0.1
max_of = "closed"

[[scenario]]
name = "open"
mix = [{ descriptors = ["id=user-{key:8}"] }]
rate = 500.0
"#;

/// A folder of one test, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rk-compare-test-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, text).expect("a temporary file");
        path
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn rk_compare(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rk-compare"));
    command.args(words).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether any process was started with this text in its command line.
fn runs(text: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("Linux");
    let lines = processes.filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok());
    lines
        .into_iter()
        .any(|line| String::from_utf8_lossy(&line).contains(text))
}

/// A program of another name, to know its processes by.
fn named(folder: &Folder, program: &str) -> PathBuf {
    let copy = folder.0.join("noop-under-test");
    fs::copy(program, &copy).expect("a copy");
    copy
}

#[test]
fn the_report_has_all_scenarios_and_nothing_keeps_running() {
    let folder = Folder::new("whole");
    let program = named(&folder, NOOP);
    let line = |name: &str| {
        let program = program.display();
        format!(
            "[[server]]\nname = \"{name}\"\ncommand = \"MARK=1 {program} --listen 127.0.0.1:{{port}} --threads {{threads}}\"\n"
        )
    };
    let gone = "[[server]]\nname = \"gone\"\ncommand = \"no-such-program {port}\"\noptional = true\n";
    let servers = folder.write("servers.toml", &[&line("one"), gone].concat());
    let scenarios = folder.write("scenarios.toml", SCENARIOS);
    let other = format!("other={} --listen 127.0.0.1:{{port}}", program.display());
    let path = |path: &Path| path.display().to_string();
    let output = rk_compare(&[
        "servers",
        "--no-pin",
        "--rounds",
        "2",
        "--warmup",
        "100ms",
        "--duration",
        "300ms",
        "--note",
        "a <test>",
        "--servers",
        &path(&servers),
        "--server",
        &other,
        "--scenarios",
        &path(&scenarios),
        "--out",
        &path(&folder.0),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!runs(&program.display().to_string()), "a server is still there");

    let csv = folder.read("servers.csv");
    let mut lines = csv.lines();
    let names: Vec<_> = lines.next().expect("a head").split(',').collect();
    let column = |name: &str| names.iter().position(|column| *column == name).expect(name);
    let (decided, failed, cpu) = (column("decided"), column("failed"), column("cpu_us_per_request"));
    let rows: Vec<Vec<_>> = lines.map(|line| line.split(',').collect()).collect();
    let order: Vec<_> = rows.iter().map(|row| row[..3].join(" ")).collect();
    let expected = [
        "closed one 1",
        "closed other 1",
        "closed one 2",
        "closed other 2",
        "many one 1",
        "many one 2",
    ];
    assert_eq!(order[..6], expected);
    assert_eq!(order.len(), 14, "{csv}");
    for row in &rows {
        assert!(row[decided].parse::<u64>().expect("a number") > 0, "{row:?}");
        assert_eq!(row[failed], "0", "{row:?}");
        assert!(row[cpu].parse::<f64>().expect("a number") >= 0.0, "{row:?}");
    }

    let (html, markdown) = (folder.read("servers.html"), folder.read("servers.md"));
    for name in ["closed", "many", "half", "open"] {
        assert!(markdown.contains(&format!("(`{name}`)")), "{name}");
        assert!(html.contains(&format!("<small>{name}</small>")), "{name}");
    }
    assert!(
        html.matches("<svg").count() == 6 && html.matches("<polyline").count() == 7,
        "{html}"
    );
    assert!(html.contains("one &lt;descriptor&gt;") && html.contains("a &lt;test&gt;"));
    assert!(!html.contains("<script") && !html.contains("http://") && !html.contains("https://"));
    assert!(
        markdown.contains("gone is not installed and was left out"),
        "{markdown}"
    );
}

#[test]
fn a_server_that_does_not_start_is_said_and_the_others_go_on() {
    let folder = Folder::new("failing");
    let line = format!("[[server]]\nname = \"one\"\ncommand = \"{NOOP} --listen 127.0.0.1:{{port}}\"\n");
    let servers = folder.write("servers.toml", &line);
    let scenarios = folder.write("scenarios.toml", SCENARIOS);
    let path = |path: &Path| path.display().to_string();
    let bad = format!("bad={NOOP} --no-such-option {{port}}");
    let output = rk_compare(&[
        "servers",
        "--no-pin",
        "--rounds",
        "1",
        "--warmup",
        "0s",
        "--duration",
        "200ms",
        "--only",
        "closed",
        "--servers",
        &path(&servers),
        "--server",
        &bad,
        "--scenarios",
        &path(&scenarios),
        "--out",
        &path(&folder.0),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let markdown = folder.read("servers.md");
    assert!(
        markdown.contains("bad-0 ended with") && markdown.contains("--no-such-option"),
        "{markdown}"
    );
    assert_eq!(folder.read("servers.csv").lines().count(), 2);
}

#[test]
fn faults_of_files_and_options_are_named() {
    let folder = Folder::new("faults");
    let path = |path: &Path| path.display().to_string();
    let servers = folder.write(
        "servers.toml",
        "[[server]]\nname = \"one\"\n\ncommand = \"serve\"\n",
    );
    let output = rk_compare(&["servers", "--no-pin", "--servers", &path(&servers)]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(
        error.contains("servers.toml:4: one: the command does not mention {port}"),
        "{error}"
    );
    for words in [
        vec!["servers", "--server", "x"],
        vec!["servers", "--rounds", "0"],
        vec!["curves", "--no-such"],
    ] {
        assert_eq!(rk_compare(&words).status.code(), Some(2), "{words:?}");
    }
    let listed = rk_compare(&["curves", "--list", "--quick", "--only", "rules"]);
    assert_eq!(
        text(&listed.stdout).lines().count(),
        6,
        "{}",
        text(&listed.stdout)
    );
}
