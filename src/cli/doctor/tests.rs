//! The doctor, against the simulator and a cloud that is played.

use super::*;
use crate::config::{ConfiguredEncryption, ProjectRule, RouteKind};
use crate::simulator::demo::{DATABASE, ENCRYPTED_PROJECT};
use crate::simulator::{Options, Simulator};

async fn simulator(version: &str) -> Simulator {
    let options = Options {
        hg_version: format!("Hologres {version} (tag: x)"),
        ..Options::default()
    };
    Simulator::start(options).await.unwrap()
}

fn settings(simulator: &Simulator) -> Settings {
    let address = simulator.address();
    let mut settings = Settings::for_upstream(address.ip().to_string(), address.port());
    settings.upstream_mut().catalog.user = Some("svc".into());
    settings.upstream_mut().protect.projects.push(ProjectRule {
        name: "*".into(),
        encryption: ConfiguredEncryption::None,
        key_id: None,
    });
    settings
}

fn encrypt(settings: &mut Settings) {
    settings.upstream_mut().protect.projects.push(ProjectRule {
        name: ENCRYPTED_PROJECT.into(),
        encryption: ConfiguredEncryption::Kms,
        key_id: Some("key-1".into()),
    });
}

async fn examine_demo(settings: &Settings) -> Vec<Finding> {
    examine(settings, vec![DATABASE.to_owned()]).await
}

fn about<'f>(findings: &'f [Finding], text: &str) -> &'f Finding {
    let mut about = findings.iter().filter(|f| f.found.contains(text));
    about
        .next()
        .unwrap_or_else(|| panic!("nothing about {text}: {findings:#?}"))
}

#[tokio::test]
async fn a_set_up_with_nothing_encrypted_is_healthy() {
    let simulator = simulator("2.2.47").await;
    let findings = examine_demo(&settings(&simulator)).await;
    // The demo's Hologres has no query log.
    assert_eq!(worst(&findings), Level::Info, "{findings:#?}");
    about(&findings, "hologres.hg_query_log cannot be read");
    about(&findings, "it is Hologres V2.2.47");
    about(
        &findings,
        "hg_experimental_enable_access_odps_orc_via_holo is on (HQE)",
    );
    assert!(text(&findings).ends_with("All is well.\n"));
    let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
    assert_eq!(json["status"], "healthy");
}

#[tokio::test]
async fn what_a_session_cannot_mend_is_a_warning_with_its_statement() {
    let simulator = simulator("2.2.47").await;
    let mut settings = settings(&simulator);
    encrypt(&mut settings);
    let findings = examine_demo(&settings).await;
    assert_eq!(worst(&findings), Level::Warning, "{findings:#?}");
    let itself = about(&findings, "Auto Analyze");
    let statement = format!(
        "ALTER DATABASE \"{DATABASE}\" SET hg_experimental_enable_access_odps_orc_via_holo = false;"
    );
    assert_eq!(itself.sql.as_deref(), Some(&*statement));
    assert!(text(&findings).contains(&format!("\n            {statement}\n")));
    let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
    let told = json["findings"].as_array().unwrap();
    let told = told.iter().find(|f| f["code"] == "database-default");
    assert_eq!(told.unwrap()["sql"], statement);
    // Nobody can mend these here.
    let region = about(&findings, "Shanghai");
    let role = about(&findings, "was not checked: no [keys.cloud]");
    assert_eq!([region.level, role.level], [Level::Info; 2]);
    about(&findings, "a KMS key (BYOK), key-1");
}

/// What is encrypted, and no cloud to ask: all that is left are remarks.
#[test]
fn remarks_are_no_reason_to_fail() {
    let findings = [
        Finding::ok("project", "project p", "encrypted"),
        Finding::info("region", "vendor", "Shanghai", "ask"),
    ];
    assert_eq!(exit_status(&findings), 0);
    assert!(text(&findings).ends_with("All is well.\n"));
    let json: serde_json::Value = serde_json::from_str(&json(&findings)).unwrap();
    assert_eq!(json["status"], "healthy");
    assert_eq!(json["findings"][1]["level"], "info");
    let warning = Finding::warning("c", "s", "f", "m");
    let broken = Finding::broken("c", "s", "f", "m");
    assert_eq!(exit_status(std::slice::from_ref(&warning)), 1);
    assert_eq!(exit_status(&[warning, broken]), 2);
}

#[tokio::test]
async fn the_version_gates() {
    for (version, route, expected, says) in [
        ("1.0.9", RouteKind::Sqe, Level::Broken, "reads no encrypted"),
        ("1.3.30", RouteKind::Sqe, Level::Warning, "back end"),
        ("1.3.31", RouteKind::Sqe, Level::Ok, "V1.3.31"),
        (
            "3.1.9",
            RouteKind::CommonTable,
            Level::Broken,
            "from V3.2 on",
        ),
        ("3.1.9", RouteKind::Auto, Level::Ok, "V3.1.9"),
        ("3.2.0", RouteKind::Auto, Level::Ok, "V3.2.0"),
    ] {
        let simulator = simulator(version).await;
        let mut settings = settings(&simulator);
        settings.upstream_mut().route.kind = route;
        let findings = examine_demo(&settings).await;
        assert_eq!(about(&findings, says).level, expected, "{version}");
        let gates = findings.iter().filter(|f| f.code != "query-log-unreadable");
        let gates: Vec<_> = gates.cloned().collect();
        assert_eq!(worst(&gates), expected, "{version}");
    }
}

#[tokio::test]
async fn the_default_key_and_a_project_that_nobody_knows() {
    let simulator = simulator("3.2.0").await;
    let mut settings = settings(&simulator);
    settings.upstream_mut().protect.projects = vec![ProjectRule {
        name: ENCRYPTED_PROJECT.into(),
        encryption: ConfiguredEncryption::DefaultKey,
        key_id: None,
    }];
    let findings = examine_demo(&settings).await;
    assert_eq!(about(&findings, "SQE cannot read").level, Level::Broken);
    let unknown = about(&findings, "nobody knows");
    assert_eq!(unknown.level, Level::Warning);
    let offered = unknown.mend.as_deref().unwrap();
    assert!(offered.contains("\"default-key\""), "{offered}");
    settings.upstream_mut().route.kind = RouteKind::Auto;
    let findings = examine_demo(&settings).await;
    assert_eq!(worst(&findings), Level::Warning, "{findings:#?}");
    let statement = about(&findings, "Auto Analyze").sql.as_deref().unwrap();
    assert!(
        statement.ends_with("= 'odps:common_table,dlf:hqe';"),
        "{statement}"
    );
}

#[tokio::test]
async fn an_upstream_that_is_away_is_broken() {
    let simulator = simulator("3.2.0").await;
    let mut settings = settings(&simulator);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.upstream_mut().addresses[0].port = listener.local_addr().unwrap().port();
    drop(listener);
    let findings = examine_demo(&settings).await;
    assert_eq!(about(&findings, "cannot be read").level, Level::Broken);
    settings.upstream_mut().catalog.user = None;
    let findings = examine(&settings, Vec::new()).await;
    assert_eq!(about(&findings, "cannot connect").level, Level::Broken);
    // One of several addresses is enough for clients.
    let there = crate::config::Address {
        host: simulator.address().ip().to_string(),
        port: simulator.address().port(),
    };
    settings.upstream_mut().addresses.push(there);
    let findings = examine(&settings, Vec::new()).await;
    assert_eq!(about(&findings, "cannot connect").level, Level::Warning);
    assert_eq!(about(&findings, "accepts connections").level, Level::Ok);
}
