//! `rk-compare`: parse, measure, report.

use std::process::ExitCode;

use clap::Parser;
use rk_load::compare::curves::{self, curves_of};
use rk_load::compare::out::{self, Head};
use rk_load::compare::{Command, CurvesArgs, Options, ServersArgs, compare};

/// There is no result: wrong options, no server.
const NO_RESULT: u8 = 2;

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::Servers(args) => servers(&args),
        Command::Curves(args) => curves(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rk-compare: {error}");
            ExitCode::from(NO_RESULT)
        }
    }
}

fn servers(args: &ServersArgs) -> Result<(), String> {
    let head = Head::read(args.common.note.clone());
    let outcome = compare(args)?;
    if outcome.samples.is_empty() {
        return Err(format!("nothing was measured: {}", outcome.remarks.join("; ")));
    }
    let markdown = out::servers_markdown(&head, &outcome);
    println!("{markdown}");
    let files = [
        ("servers.csv", out::servers_csv(&outcome)),
        ("servers.html", out::servers_html(&head, &outcome)),
        ("servers.md", markdown),
    ];
    out::write_all(&args.common.out, &files)?;
    println!(
        "written to {}: servers.csv, servers.html, servers.md",
        args.common.out.display()
    );
    Ok(())
}

fn curves(args: &CurvesArgs) -> Result<(), String> {
    if args.list {
        for point in curves_of(&args.common) {
            println!("{:<12} {:<24} {}", point.curve, point.series, point.x);
        }
        return Ok(());
    }
    let head = Head::read(args.common.note.clone());
    let (points, remarks) = curves::measure(&args.common)?;
    if points.is_empty() {
        return Err(format!("nothing was measured: {}", remarks.join("; ")));
    }
    let markdown = out::curves_markdown(&head, &points, &remarks);
    println!("{markdown}");
    let files = [
        ("curves.csv", out::curves_csv(&points)),
        ("curves.html", out::curves_html(&head, &points, &remarks)),
        ("curves.md", markdown),
    ];
    out::write_all(&args.common.out, &files)?;
    println!(
        "written to {}: curves.csv, curves.html, curves.md",
        args.common.out.display()
    );
    Ok(())
}
