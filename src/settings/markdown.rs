//! `docs/settings.md`, from the table.

use std::fmt::Write as _;

use super::{
    reference::{NOT_NEEDED, PINNED, UNSUPPORTED},
    table::{self, GROUPS, Setting},
};

const INTRODUCTION: &str = "\
# Settings

A setting can stand in four places. The first one that has it wins:

1. a flag: `--grpc-port=9081`
2. an environment variable: `RATEKEEPER_GRPC_PORT=9081`, else the reference server's own name, `GRPC_PORT=9081`
3. a TOML file, named by `--config FILE` or `RATEKEEPER_CONFIG`: `grpc.port = 9081`, or `port = 9081` below `[grpc]`
4. the default

The key `a.b_c` is the variable `RATEKEEPER_A_B_C` and the flag `--a-b-c`.

All values are checked at the start, also those that another place overrides. A malformed one, or an unknown key in the
file, ends the process with exit code 2 and a line that names the place. Unknown variables that start with `RATEKEEPER_`
are named in a warning. Variables that Kubernetes sets for services (`GRPC_PORT=tcp://…`) are left alone.

Values are written as the reference server takes them:

| value | in flags and variables | in the file |
|---|---|---|
| BOOL | `1 t T true True TRUE`, `0 f F false False FALSE`; a flag alone is true | `true`, `false` |
| N | `4096`, `4_096`, `0x1000`; a leading zero means octal | a number |
| RATIO | `0.8` | a number |
| DURATION | `150us`, `10s`, `1h30m`; units `ns us ms s m h` | as a string |
| NAME | one of those listed, in either case | as a string |
| HOST | a name or an address; empty is `0.0.0.0` | as a string |
| ADDRESS | `:9090`, `127.0.0.1:9090`, `[::1]:9090`; empty is unset | as a string |
| HEADER | the name of a response header | as a string |
| TEXT, PATH | any; empty is unset; paths start at the working directory | as a string |
| MAP | `name:value,name:value` | as a string, or as a table of strings |

<!-- Everything on this page is written by `settings::reference_markdown`; a test holds it to that. -->
";

/// Where the lines of a long list end.
const COLUMNS: usize = 118;

/// The reference of all settings, in Markdown.
#[must_use]
pub fn reference_markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in GROUPS {
        let _ = write!(page, "\n## {}\n\n", group.heading);
        page.push_str("| key | value | default | reference server | meaning |\n|---|---|---|---|---|\n");
        for setting in group.settings {
            row(&mut page, setting);
        }
    }
    page.push_str("\n## Variables of the reference server without a setting\n\n");
    for pinned in PINNED {
        let refused: Vec<_> = pinned
            .refused
            .iter()
            .map(|(value, _)| format!("`{value}`"))
            .collect();
        let (name, only) = (pinned.name, pinned.accepted[0]);
        let _ = writeln!(
            page,
            "- `{name}` may be unset or `{only}`; {} is an error.",
            refused.join(", ")
        );
    }
    for (name, why) in NOT_NEEDED {
        let _ = writeln!(page, "- `{name}` may be anything: {why}.");
    }
    let unsupported = names(UNSUPPORTED.iter().map(|(name, _)| *name));
    let text =
        "These have no effect in this version. If any of them asks for something, a warning names it once:";
    wrap(&mut page, &format!("- {text} {unsupported}."));
    page
}

/// Adds a long item of a list, broken between words.
fn wrap(page: &mut String, item: &str) {
    let mut column = 0;
    for word in item.split(' ') {
        let gap = match column {
            0 => "",
            _ if column + 1 + word.len() > COLUMNS => "\n  ",
            _ => " ",
        };
        column = if gap.len() > 1 { 2 } else { column + gap.len() } + word.len();
        page.push_str(gap);
        page.push_str(word);
    }
    page.push('\n');
}

fn row(page: &mut String, setting: &Setting) {
    let key = match setting.short {
        Some(short) => {
            format!(
                "`{}` (also `--{}`, `{}`)",
                setting.key,
                table::flag_of(short),
                table::variable_of(short)
            )
        }
        None => format!("`{}`", setting.key),
    };
    let code = |text: &str| {
        if text.is_empty() {
            String::new()
        } else {
            format!("`{text}`")
        }
    };
    let _ = writeln!(
        page,
        "| {key} | {} | {} | {} | {} |",
        setting.kind.column(),
        code(setting.default),
        code(setting.reference.unwrap_or_default()),
        setting.help
    );
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
