//! The flags of the command line, from the table.

use clap::{Arg, Command};

use super::{
    CONFIG_FILE,
    kind::Kind,
    table::{self, GROUPS, Setting},
};

/// Adds a flag for every setting to a command, and `--config` for the settings file. Values are read by
/// [`super::load`], so that bad ones are reported alike wherever they stand.
#[must_use]
pub fn add_flags(command: Command) -> Command {
    let config = Arg::new(CONFIG_FILE)
        .long(CONFIG_FILE)
        .value_name("FILE")
        .help(format!(
            "TOML file with settings [env: {}]",
            table::variable_of(CONFIG_FILE)
        ));
    let settings = GROUPS.iter().flat_map(|group| {
        group
            .settings
            .iter()
            .map(|setting| argument(setting).help_heading(group.heading))
    });
    command.arg(config).args(settings)
}

fn argument(setting: &'static Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        text => format!(" [default: {text}]"),
    };
    let help = format!(
        "{}{default} [env: {}]",
        setting.help,
        setting.variables().join(", ")
    );
    let argument = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.kind.placeholder())
        .help(help);
    let argument = match setting.short {
        Some(key) => argument.visible_alias(table::flag_of(key)),
        None => argument,
    };
    match setting.kind {
        Kind::Bool => argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => argument,
    }
}
