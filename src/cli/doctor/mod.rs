//! `osprey doctor`: the whole set-up, checked from here: the upstream, each database, each project
//! and its key, the RAM role. Each finding that is not well says what mends it.

mod finding;
mod keys;
mod ram;
mod upstream;

use std::collections::BTreeMap;
use std::process::ExitCode;

use finding::{Finding, Level, count, worst};

use super::asking;
use crate::config::Settings;

/// The flags.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    #[command(flatten)]
    asking: asking::Args,

    /// A database to check; may be repeated [default: all that the catalog account may enter]
    #[arg(long, value_name = "NAME")]
    database: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: Args) -> ExitCode {
    let as_json = args.asking.json;
    let loaded = match args.asking.load() {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let mut findings: Vec<Finding> = loaded
        .warnings
        .iter()
        // Its text says what to do, too.
        .map(|warning| Finding {
            level: Level::Warning,
            ..Finding::ok("configuration", "configuration", warning.to_string())
        })
        .collect();
    match asking::wait_for(examine(&loaded.settings, args.database)) {
        Ok(found) => findings.extend(found),
        Err(why) => {
            eprintln!("osprey: {why}");
            return ExitCode::from(2);
        }
    }
    asking::print(&if as_json {
        json(&findings)
    } else {
        text(&findings)
    });
    ExitCode::from(exit_status(&findings))
}

/// 0: nothing to mend; 1: something works and should be mended; 2: something does not work.
fn exit_status(findings: &[Finding]) -> u8 {
    match worst(findings) {
        Level::Ok | Level::Info => 0,
        Level::Warning => 1,
        Level::Broken => 2,
    }
}

/// Looks at everything; one thing that cannot be looked at keeps no other from it.
async fn examine(settings: &Settings, databases: Vec<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let databases = upstream::examine(settings, databases, &mut findings).await;
    // Foreign tables by project, over all databases.
    let mut projects: BTreeMap<String, usize> = BTreeMap::new();
    for (project, count) in databases.iter().flat_map(|database| &database.projects) {
        *projects.entry(project.clone()).or_default() += count;
    }
    let version = databases.iter().find_map(|database| database.version);
    let common_table =
        crate::catalog::route::is_common_table(settings.upstream().route.kind, version);
    let encrypted = keys::examine(settings, &projects, common_table, &mut findings).await;
    for database in &databases {
        database.itself(&encrypted, common_table, &mut findings);
    }
    ram::examine(settings, !encrypted.is_empty(), common_table, &mut findings).await;
    findings
}

fn json(findings: &[Finding]) -> String {
    let report = serde_json::json!({
        "status": match worst(findings) {
            Level::Ok | Level::Info => "healthy",
            Level::Warning => "warnings",
            Level::Broken => "broken",
        },
        "findings": findings,
    });
    format!("{report:#}\n")
}

fn text(findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let level = match finding.level {
            Level::Ok => "ok     ",
            Level::Info => "info   ",
            Level::Warning => "WARNING",
            Level::Broken => "BROKEN ",
        };
        lines.push(format!("{level}  {}: {}", finding.subject, finding.found));
        if let Some(mend) = &finding.mend {
            lines.push(format!("         -> {mend}"));
        }
        if let Some(sql) = &finding.sql {
            lines.push(format!("            {sql}"));
        }
    }
    let (warnings, broken) = (
        count(findings, Level::Warning),
        count(findings, Level::Broken),
    );
    lines.push(match (warnings, broken) {
        (0, 0) => "\nAll is well.\n".to_owned(),
        _ => format!("\nWarnings: {warnings}. Broken: {broken}.\n"),
    });
    lines.join("\n")
}

#[cfg(test)]
#[cfg(feature = "demo")] // they have its Hologres behind
mod tests;
