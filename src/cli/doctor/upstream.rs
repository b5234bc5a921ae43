//! The upstream's side: is it there, which version is it, what do its databases say?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::finding::Finding;
use crate::catalog::query_log::DAYS;
use crate::catalog::route::{is_common_table, route_setting};
use crate::catalog::{Contents, FailedReads, HologresVersion, ReadError, Service, project_key};
use crate::config::{Settings, Upstream};
use crate::net::endpoint::Purpose;
use crate::net::{Endpoint, SocketOptions, TokioNetwork};
use crate::sql::ROUTE_SETTINGS;

/// Every Hologres instance has this database.
const DEFAULT_DATABASE: &str = "postgres";

/// One database that could be read.
pub(super) struct Database {
    name: String,
    pub(super) version: Option<HologresVersion>,
    /// Foreign tables by project.
    pub(super) projects: BTreeMap<String, usize>,
    /// A fresh session reads encrypted data without any SET.
    already: bool,
}

/// Reads the databases (all, if none is named) and says what it found of the upstream and them.
pub(super) async fn examine(
    settings: &Settings,
    names: Vec<String>,
    findings: &mut Vec<Finding>,
) -> Vec<Database> {
    let endpoint = match Endpoint::new(settings.upstream(), SocketOptions::default()) {
        Ok(endpoint) => Arc::new(endpoint),
        Err(error) => {
            let mend = "check the files under [upstream.tls]";
            findings.push(Finding::broken(
                "tls-files",
                "upstream",
                error.to_string(),
                mend,
            ));
            return Vec::new();
        }
    };
    let catalog = &settings.upstream().catalog;
    let Some(service) = Service::new(catalog, endpoint) else {
        reach(settings.upstream(), findings).await;
        findings.push(Finding::warning(
            "catalog-account",
            "upstream",
            "there is no catalog account, so that neither databases nor foreign tables can be \
             looked at; Osprey knows what sessions read in their own name (catalog.borrow), what \
             [protect] names, and what failures teach",
            "set catalog.user (--catalog-user) and OSPREY_CATALOG_PASSWORD",
        ));
        return Vec::new();
    };
    let names = if names.is_empty() {
        match service.databases(DEFAULT_DATABASE).await {
            Ok(names) => names,
            Err(error) => {
                let found = format!("cannot list the databases: {error}");
                let mend = format!("{}; or name them with --database", error.failure.remedy());
                findings.push(Finding::broken(
                    "databases-unreadable",
                    "upstream",
                    found,
                    mend,
                ));
                return Vec::new();
            }
        }
    } else {
        names
    };
    let mut databases: Vec<Database> = Vec::new();
    for name in names {
        match service.read(&name).await {
            Ok(contents) => {
                if databases.is_empty() {
                    gates(settings, contents.version, findings);
                }
                let log = service.failed_reads(&name).await;
                let common_table =
                    is_common_table(settings.upstream().route.kind, contents.version);
                query_log(&name, log, common_table, findings);
                databases.push(database(name, &contents, findings));
            }
            Err(error) => {
                let found = format!("cannot be read: {error}");
                let mend = error.failure.remedy_of_named();
                let subject = format!("database {name}");
                findings.push(Finding::broken("database-unreadable", subject, found, mend));
            }
        }
    }
    databases
}

/// What has failed on encrypted data, through Osprey or round it.
fn query_log(
    database: &str,
    log: Result<Vec<FailedReads>, ReadError>,
    common_table: bool,
    findings: &mut Vec<Finding>,
) {
    let subject = format!("database {database}");
    let failed = match log {
        Ok(failed) => failed,
        Err(error) => {
            findings.push(Finding::info(
                "query-log-unreadable",
                subject,
                format!(
                    "hologres.hg_query_log cannot be read, so that what fails on encrypted data \
                     outside Osprey is not known: {error}"
                ),
                "let the catalog account read it (GRANT pg_read_all_stats)",
            ));
            return;
        }
    };
    if failed.is_empty() {
        findings.push(Finding::ok(
            "query-log",
            subject,
            format!("nothing has failed on encrypted data in the last {DAYS} days"),
        ));
        return;
    }
    let (name, value) = route_setting(common_table);
    for reads in failed {
        let application = match &*reads.application {
            "" => "a client that does not name itself",
            named => named,
        };
        let found = format!(
            "{} statements of {application}, as user {}, have failed on encrypted data in the last \
             {DAYS} days, the last one at {}",
            reads.count, reads.user, reads.last
        );
        let lacking = Finding::warning(
            "query-log-failures",
            &subject,
            found,
            "have it connect to Osprey, if it does not; else look for it in Osprey's log. In its own \
             session this would have helped",
        );
        findings.push(lacking.with_sql(format!("SET {name} = {value};")));
    }
}

/// Connects to each address, as sessions would. One of several that does not answer is no more than a
/// warning: clients get to another.
async fn reach(upstream: &Upstream, findings: &mut Vec<Finding>) {
    let mut unreachable = Vec::new();
    for address in &upstream.addresses {
        let alone = Upstream {
            addresses: vec![address.clone()],
            ..upstream.clone()
        };
        let connected = match Endpoint::new(&alone, SocketOptions::default()) {
            Ok(endpoint) => endpoint
                .connect(&TokioNetwork, Purpose::Session)
                .await
                .map(drop)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match connected {
            Ok(()) => findings.push(Finding::ok(
                "upstream-reachable",
                "upstream",
                format!("{address} accepts connections"),
            )),
            Err(why) => unreachable.push(why),
        }
    }
    let all = unreachable.len() == upstream.addresses.len();
    for found in unreachable {
        let mend = "check upstream.address and upstream.tls, and that the instance runs";
        findings.push(if all {
            Finding::broken("upstream-unreachable", "upstream", found, mend)
        } else {
            Finding::warning("upstream-unreachable", "upstream", found, mend)
        });
    }
}

/// The vendor's page, *Limits*.
fn gates(settings: &Settings, version: Option<HologresVersion>, findings: &mut Vec<Finding>) {
    let subject = "upstream";
    let upgrade = "upgrade the instance: Hologres console, Instances, Upgrade";
    let Some(version) = version else {
        let unknown = Finding::warning(
            "version-unknown",
            subject,
            "its version cannot be read",
            "run this as the catalog account, and grant what it lacks",
        );
        findings.push(unknown.with_sql("SELECT hg_version();"));
        return;
    };
    let common_table = is_common_table(settings.upstream().route.kind, Some(version));
    findings.push(if version < HologresVersion::READS_ENCRYPTED {
        let found = format!("it is Hologres {version}, which reads no encrypted data (V1.1 does)");
        Finding::broken("version-too-old", subject, found, upgrade)
    } else if common_table && version < HologresVersion::COMMON_TABLE {
        let found = format!(
            "it is Hologres {version}, and route \"common-table\" reads encrypted data from V3.2 on"
        );
        let mend = format!("set route.kind = \"auto\" (--route auto), or {upgrade}");
        Finding::broken("version-too-old", subject, found, mend)
    } else if version < HologresVersion::NEEDS_NO_BACKEND_CONFIGURATION {
        let found = format!(
            "it is Hologres {version}; before V1.3.31 the back end must be configured for \
             encrypted data"
        );
        let mend = format!("ask Alibaba Cloud's support for that, or {upgrade}");
        Finding::warning("version-back-end", subject, found, mend)
    } else {
        Finding::ok("version", subject, format!("it is Hologres {version}"))
    });
}

fn database(name: String, contents: &Contents, findings: &mut Vec<Finding>) -> Database {
    let subject = format!("database {name}");
    let route = &contents.route;
    let orc = match route.orc_via_holo {
        Some(true) => "on (HQE)",
        Some(false) => "off (SQE)",
        None => "not there",
    };
    let routing = route.catalog_routing.as_deref().unwrap_or("not there");
    let found = format!(
        "{} is {orc}, {} is {routing}",
        ROUTE_SETTINGS[0], ROUTE_SETTINGS[2]
    );
    findings.push(
        if route.orc_via_holo.is_none() && !route.reads_encrypted_already() {
            let mend = "run this in it, and see what it answers";
            Finding::warning("route-setting-missing", &subject, found, mend)
                .with_sql(format!("SHOW {};", ROUTE_SETTINGS[0]))
        } else if route.reads_encrypted_already() {
            let found = format!("{found}: encrypted data can be read, and Osprey sets nothing");
            Finding::ok("route-setting", &subject, found)
        } else {
            Finding::ok(
                "route-setting",
                &subject,
                format!("{found}: Osprey makes the setting for sessions that need it"),
            )
        },
    );
    let mut projects: BTreeMap<String, usize> = BTreeMap::new();
    for project in contents
        .relations
        .iter()
        .filter_map(|r| r.project.as_deref())
    {
        *projects.entry(project_key(project)).or_default() += 1;
    }
    let tables: usize = projects.values().sum();
    let counts: Vec<_> = projects
        .iter()
        .map(|(project, count)| format!("{project} {count}"))
        .collect();
    findings.push(Finding::ok(
        "foreign-tables",
        &subject,
        format!(
            "{tables} foreign tables of MaxCompute, by project: {}",
            counts.join(", ")
        ),
    ));
    Database {
        name,
        version: contents.version,
        projects,
        already: route.reads_encrypted_already(),
    }
}

impl Database {
    /// What Hologres runs by itself never passes through Osprey.
    pub(super) fn itself(
        &self,
        encrypted: &BTreeSet<String>,
        common_table: bool,
        findings: &mut Vec<Finding>,
    ) {
        let reads = self.projects.keys().any(|name| encrypted.contains(name));
        if !reads || self.already {
            return;
        }
        let (name, value) = route_setting(common_table);
        let database = self.name.replace('"', "\"\"");
        let lacking = Finding::warning(
            "database-default",
            format!("database {}", self.name),
            "it has foreign tables of encrypted projects, and what Hologres runs by itself (Auto \
             Analyze, the refresh of dynamic tables) passes no proxy: there it fails, unless the \
             database has the setting",
            "give the database the setting, as its owner or a superuser",
        );
        findings.push(lacking.with_sql(format!(
            "ALTER DATABASE \"{database}\" SET {name} = {value};"
        )));
    }
}
