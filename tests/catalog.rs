//! The catalog reader against a real PostgreSQL whose foreign tables look like Hologres'.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use common::postgres::{self, Cluster, PASSWORD};
use osprey::catalog::{Conduct, Contents, Failure, HologresVersion, ReadError, Sort};
use osprey::config::{Secret, Settings, TlsMode};
use tokio_postgres::Client;

const SERVERS: &str = "
    CREATE FOREIGN DATA WRAPPER odps_fdw;
    CREATE SERVER odps_server FOREIGN DATA WRAPPER odps_fdw;
    CREATE SERVER oss_server FOREIGN DATA WRAPPER odps_fdw;
";

async fn database(cluster: &Cluster, name: &str, sql: &str) -> Client {
    let client = cluster.database(name).await;
    client.batch_execute(SERVERS).await.unwrap();
    client.batch_execute(sql).await.unwrap();
    client
}

fn settings(cluster: &Cluster) -> Settings {
    let mut settings = Settings::for_upstream("127.0.0.1", cluster.port);
    settings.upstream_mut().catalog.user = Some(postgres::SUPERUSER.into());
    settings.upstream_mut().catalog.password = Some(Secret(PASSWORD.into()));
    settings
}

async fn read_with(settings: &Settings, database: &str) -> Result<Contents, ReadError> {
    let service = common::service(settings);
    service.read(database).await
}

async fn read(cluster: &Cluster, database: &str) -> Contents {
    read_with(&settings(cluster), database).await.unwrap()
}

#[tokio::test]
async fn the_databases_that_the_account_may_connect_to() {
    let cluster = postgres::shared();
    let client = database(&cluster, "listed", "").await;
    for statement in [
        "CREATE ROLE lister LOGIN PASSWORD 'correct horse'",
        "CREATE DATABASE \"Hidden\"",
        "REVOKE CONNECT ON DATABASE \"Hidden\" FROM PUBLIC",
    ] {
        client.batch_execute(statement).await.unwrap();
    }
    let mut settings = settings(&cluster);
    let listed = async |settings: &Settings| {
        let service = common::service(settings);
        service.databases("postgres").await.unwrap()
    };
    let has = |all: &[String], name: &str| all.iter().any(|listed| listed == name);
    let all = listed(&settings).await;
    assert!(has(&all, "Hidden") && has(&all, "listed"), "{all:?}");
    assert!(!has(&all, "template1"), "{all:?}");
    settings.upstream_mut().catalog.user = Some("lister".into());
    let own = listed(&settings).await;
    assert!(!has(&own, "Hidden") && has(&own, "listed"), "{own:?}");
}

/// Each relation with what it reads, or its project.
fn summary(contents: &Contents) -> BTreeMap<String, Vec<String>> {
    let lines = contents.relations.iter().map(|relation| {
        let reads = relation
            .reads
            .iter()
            .map(|&read| contents.relations[read].qualified());
        let project = relation
            .project
            .iter()
            .map(|project| format!("project {project}"));
        (relation.qualified(), project.chain(reads).collect())
    });
    lines.collect()
}

#[tokio::test]
async fn what_leads_to_maxcompute_is_found_and_nothing_else() {
    let cluster = postgres::shared();
    let _client = database(
        &cluster,
        "lineage",
        r#"
        CREATE SCHEMA "Mixed";
        CREATE FOREIGN TABLE orders (id int) SERVER odps_server
            OPTIONS (project_name 'sales', table_name 'orders');
        CREATE FOREIGN TABLE "Mixed"."Three Layers" (id int) SERVER odps_server
            OPTIONS (table_name 'x', project_name 'Hr#default');
        CREATE FOREIGN TABLE no_options (id int) SERVER odps_server;
        CREATE FOREIGN TABLE oss (id int) SERVER oss_server OPTIONS (project_name 'sales');
        CREATE TABLE plain (id int);
        CREATE VIEW v1 AS SELECT * FROM orders JOIN plain USING (id);
        CREATE VIEW "Mixed".v2 AS SELECT 1 AS one FROM v1, "Mixed"."Three Layers";
        CREATE VIEW v3 AS SELECT * FROM plain WHERE id IN (SELECT 1 FROM "Mixed".v2);
        CREATE MATERIALIZED VIEW m AS SELECT * FROM orders WITH NO DATA;
        CREATE TABLE ruled (id int);
        CREATE RULE also AS ON INSERT TO ruled DO ALSO DELETE FROM plain
            WHERE id IN (SELECT id FROM orders);
        CREATE TABLE parted (id int) PARTITION BY LIST (id);
        CREATE FOREIGN TABLE part PARTITION OF parted FOR VALUES IN (1) SERVER odps_server
            OPTIONS (project_name 'hr');
        CREATE TABLE parent (id int);
        CREATE FOREIGN TABLE child () INHERITS (parent) SERVER odps_server
            OPTIONS (project_name 'hr');
        CREATE VIEW over_parent AS SELECT * FROM parent;
        CREATE VIEW harmless AS SELECT oss.id FROM plain, oss;
        CREATE TABLE "Mixed".orders (id int);
        CREATE VIEW "Mixed".plain AS SELECT 1 AS one;
        "#,
    )
    .await;

    let contents = read(&cluster, "lineage").await;
    let expected: &[(&str, &[&str])] = &[
        ("Mixed.Three Layers", &["project Hr#default"]),
        ("Mixed.v2", &["Mixed.Three Layers", "public.v1"]),
        ("public.child", &["project hr"]),
        ("public.m", &["public.orders"]),
        ("public.no_options", &[]),
        ("public.orders", &["project sales"]),
        ("public.over_parent", &["public.parent"]),
        ("public.parent", &["public.child"]),
        ("public.part", &["project hr"]),
        ("public.parted", &["public.part"]),
        ("public.ruled", &["public.orders"]),
        ("public.v1", &["public.orders"]),
        ("public.v3", &["Mixed.v2"]),
    ];
    let mut found = summary(&contents);
    for reads in found.values_mut() {
        reads.sort();
    }
    let expected: BTreeMap<String, Vec<String>> = expected
        .iter()
        .map(|(name, reads)| {
            (
                (*name).to_owned(),
                reads.iter().map(|read| (*read).to_owned()).collect(),
            )
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(
        contents.homonyms,
        [("Mixed".to_owned(), "orders".to_owned())]
    );
    assert_eq!(contents.search_path, r#""$user", public"#);
    assert_eq!(
        contents.version, None,
        "plain PostgreSQL has no hg_version()"
    );
    assert_eq!(contents.route.orc_via_holo, None, "nor the setting");
    assert_eq!(contents.route.catalog_routing, None);
}

#[tokio::test]
async fn functions_lead_on() {
    let cluster = postgres::shared();
    let client = database(
        &cluster,
        "functions",
        r#"
        CREATE SCHEMA "Fn";
        CREATE FOREIGN TABLE orders (id int) SERVER odps_server OPTIONS (project_name 'sales');
        CREATE TABLE plain (id int);
        CREATE FUNCTION "Fn".text(int) RETURNS bigint LANGUAGE sql
            AS 'SELECT count(*) FROM public.Orders';
        CREATE FUNCTION "Fn".text(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
        CREATE PROCEDURE runs() LANGUAGE plpgsql
            AS $$ BEGIN EXECUTE 'INSERT INTO plain SELECT id FROM orders'; END $$;
        CREATE PROCEDURE over_runs() LANGUAGE plpgsql AS $$ BEGIN CALL runs(); END $$;
        CREATE FUNCTION harmless() RETURNS bigint LANGUAGE sql
            AS 'SELECT count(*) FROM plain -- not orders';
        CREATE VIEW over_text AS SELECT "Fn".text(1);
        CREATE VIEW over_view AS SELECT * FROM over_text, plain;
        CREATE TABLE filled (a bigint DEFAULT "Fn".text(1), b int DEFAULT 1);
        CREATE TABLE checked (a bigint CHECK (a < "Fn".text(2)), b bigint CHECK (b <> harmless()));
        CREATE FUNCTION looks() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM 1 FROM orders; RETURN NEW; END $$;
        CREATE TABLE watched (a int);
        CREATE TRIGGER looks BEFORE INSERT ON watched FOR EACH ROW EXECUTE PROCEDURE looks();
        CREATE TABLE kept (id int);
        CREATE POLICY own ON kept USING (id IN (SELECT id FROM orders));
        CREATE TABLE kept_too (id bigint);
        CREATE POLICY own ON kept_too USING (id < "Fn".text(3));
        ALTER TABLE kept ENABLE ROW LEVEL SECURITY;
        CREATE SCHEMA other;
        CREATE TABLE other.kept (id int);
        "#,
    )
    .await;
    // Bodies that the server has parsed came with PostgreSQL 14.
    let parsed_bodies = Cluster::major_version(&client).await >= 14;
    if parsed_bodies {
        let sql = "CREATE FUNCTION atomic() RETURNS bigint
                BEGIN ATOMIC SELECT count(*) FROM orders; END;
            CREATE FUNCTION over_atomic() RETURNS bigint BEGIN ATOMIC SELECT atomic(); END;";
        client.batch_execute(sql).await.unwrap();
    }
    let contents = read(&cluster, "functions").await;
    let mut expected = vec![
        ("Fn.text()", vec!["public.orders"]),
        ("public.atomic()", vec!["public.orders"]),
        ("public.checked", vec!["Fn.text()"]),
        ("public.filled", vec!["Fn.text()"]),
        ("public.kept", vec!["public.orders"]),
        ("public.kept_too", vec!["Fn.text()"]),
        ("public.looks()", vec!["public.orders"]),
        ("public.orders", vec!["project sales"]),
        ("public.over_atomic()", vec!["public.atomic()"]),
        ("public.over_runs()", vec!["public.runs()"]),
        ("public.over_text", vec!["Fn.text()"]),
        ("public.over_view", vec!["public.over_text"]),
        ("public.runs()", vec!["public.orders"]),
        ("public.watched", vec!["public.looks()"]),
    ];
    expected.retain(|(name, _)| parsed_bodies || !name.contains("atomic"));
    let only_read: Vec<&str> = contents
        .functions
        .iter()
        .filter(|function| function.conduct == Conduct::OnlyReads)
        .map(|function| function.name.as_str())
        .collect();
    assert_eq!(only_read, ["text", "harmless", "looks"]);
    let found = summary(&contents);
    let found: Vec<(&str, Vec<&str>)> = found
        .iter()
        .map(|(name, reads)| (&**name, reads.iter().map(|read| &**read).collect()))
        .collect();
    assert_eq!(found, expected);
    let sorts = |name: &str| {
        let relations = contents.relations.iter();
        let sorts = relations.filter(|relation| relation.name == name);
        sorts.map(|relation| relation.sort).collect::<Vec<_>>()
    };
    assert_eq!(sorts("watched"), [Sort::Written]);
    assert_eq!(sorts("kept").len(), 2);
    assert_eq!(contents.homonyms, [("other".to_owned(), "kept".to_owned())]);
}

#[tokio::test]
async fn who_may_not_use_a_schema_does_not_search_it() {
    let cluster = postgres::shared();
    let client = database(
        &cluster,
        "barred",
        "CREATE SCHEMA vault; CREATE SCHEMA open; CREATE SCHEMA alone;
         CREATE FOREIGN TABLE vault.kept (id int) SERVER odps_server OPTIONS (project_name 'a');
         CREATE TABLE open.kept (id int);
         CREATE FOREIGN TABLE alone.one (id int) SERVER odps_server OPTIONS (project_name 'a');
         GRANT USAGE ON SCHEMA open TO PUBLIC",
    )
    .await;
    for sql in [
        "CREATE ROLE barred_guest",
        "CREATE ROLE barred_group",
        "CREATE ROLE barred_member IN ROLE barred_group",
        "GRANT USAGE ON SCHEMA vault TO barred_group",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    let contents = read(&cluster, "barred").await;
    let mut barred: Vec<(&str, &str)> = contents
        .barred
        .iter()
        .map(|(role, schema)| (&**role, &**schema))
        .filter(|(role, _)| role.starts_with("barred"))
        .collect();
    barred.sort_unstable();
    assert_eq!(barred, [("barred_guest", "vault")]);
}

#[tokio::test]
async fn only_the_configured_servers_are_maxcomputes() {
    let cluster = postgres::shared();
    let _client = database(
        &cluster,
        "servers",
        "CREATE FOREIGN TABLE f (id int) SERVER odps_server OPTIONS (project_name 'a');
         CREATE FOREIGN TABLE g (id int) SERVER oss_server OPTIONS (project_name 'b')",
    )
    .await;
    let mut settings = settings(&cluster);
    settings.upstream_mut().catalog.servers = vec!["oss_server".into()];
    let contents = read_with(&settings, "servers").await.unwrap();
    assert_eq!(summary(&contents).keys().collect::<Vec<_>>(), ["public.g"]);
    settings.upstream_mut().catalog.servers = vec!["absent".into()];
    assert!(
        read_with(&settings, "servers")
            .await
            .unwrap()
            .relations
            .is_empty()
    );
}

#[tokio::test]
async fn nothing_in_public_answers_in_the_catalogs_place() {
    let cluster = postgres::shared();
    let client = database(
        &cluster,
        "hostile",
        "CREATE FOREIGN TABLE orders (id int) SERVER odps_server OPTIONS (project_name 'sales');
         CREATE TABLE public.pg_foreign_table (ftrelid oid, ftserver oid, ftoptions text[]);
         CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql
            AS $$ SELECT 'hijacked'::text $$;
         CREATE FUNCTION public.mine(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
         CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.mine);
         CREATE ROLE planter;
         GRANT CREATE ON SCHEMA public TO planter;
         SET ROLE planter;
         CREATE FUNCTION public.hg_version() RETURNS text LANGUAGE sql
            AS $$ SELECT 'Hologres 9.9.9'::text $$;
         RESET ROLE;
         ALTER DATABASE hostile SET search_path = public, pg_catalog",
    )
    .await;
    let contents = read(&cluster, "hostile").await;
    assert_eq!(
        summary(&contents).keys().collect::<Vec<_>>(),
        ["public.orders"]
    );
    assert_eq!(contents.search_path, "public, pg_catalog");
    assert_eq!(contents.version, None, "a user's hg_version() is not run");

    client
        .batch_execute(
            "ALTER FUNCTION public.hg_version() OWNER TO postgres;
             CREATE OR REPLACE FUNCTION public.hg_version() RETURNS text LANGUAGE sql
                AS $$ SELECT 'Hologres 3.1.36'::text $$",
        )
        .await
        .unwrap();
    assert_eq!(
        read(&cluster, "hostile").await.version,
        Some(HologresVersion(3, 1, 36))
    );
}

#[tokio::test]
async fn what_roles_bring_along() {
    let cluster = postgres::shared();
    let client = database(
        &cluster,
        "roles",
        &format!(
            "CREATE ROLE bi; CREATE ROLE own LOGIN PASSWORD '{PASSWORD}';
             ALTER ROLE bi SET search_path = reports, public;
             ALTER ROLE bi SET work_mem = '8MB';
             ALTER ROLE bi IN DATABASE roles SET search_path = here;
             ALTER ROLE own SET search_path = mine;"
        ),
    )
    .await;
    let brought = |contents: &Contents| {
        let settings = contents.role_settings.iter();
        let told = settings.filter(|setting| setting.role == "bi" || setting.role == "own");
        told.map(|setting| format!("{}: {}={}", setting.role, setting.name, setting.value))
            .collect::<Vec<_>>()
    };
    let contents = read(&cluster, "roles").await;
    assert_eq!(
        brought(&contents),
        ["bi: search_path=here", "own: search_path=mine"]
    );
    let elsewhere = read(&cluster, "postgres").await;
    assert!(brought(&elsewhere).contains(&"bi: search_path=reports, public".to_owned()));

    // The service account's own setting is not taken for everyone's.
    let mut account = settings(&cluster);
    account.upstream_mut().catalog.user = Some("own".into());
    let contents = read_with(&account, "roles").await.unwrap();
    assert_eq!(contents.search_path, r#""$user", public"#);
    client
        .batch_execute("ALTER DATABASE roles SET search_path = shared")
        .await
        .unwrap();
    let contents = read_with(&account, "roles").await.unwrap();
    assert_eq!(contents.search_path, "shared");
}

#[tokio::test]
async fn failures_say_what_kind_they_are() {
    let cluster = postgres::shared();
    let error = read_with(&settings(&cluster), "no_such_database")
        .await
        .unwrap_err();
    assert_eq!(error.failure, Failure::NoDatabase, "{error}");
    assert!(error.reason.contains("no_such_database"), "{error}");

    let mut wrong = settings(&cluster);
    wrong.upstream_mut().catalog.password = Some(Secret("wrong".into()));
    let error = read_with(&wrong, "postgres").await.unwrap_err();
    assert_eq!(error.failure, Failure::Login, "{error}");
    wrong.upstream_mut().catalog.password = None;
    let error = read_with(&wrong, "postgres").await.unwrap_err();
    assert_eq!(error.failure, Failure::Login, "{error}");

    let mut nobody = settings(&cluster);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    nobody.upstream_mut().addresses[0].port = listener.local_addr().unwrap().port();
    nobody.upstream_mut().connect_timeout = Duration::from_millis(200);
    let error = read_with(&nobody, "postgres").await.unwrap_err();
    assert_eq!(
        error.failure,
        Failure::Timeout,
        "a server that says nothing: {error}"
    );
    drop(listener);
    let error = read_with(&nobody, "postgres").await.unwrap_err();
    assert_eq!(error.failure, Failure::Unreachable, "{error}");

    let client = cluster.connect("postgres").await;
    client
        .batch_execute("CREATE DATABASE closed")
        .await
        .unwrap();
    client
        .batch_execute("REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
        .await
        .unwrap();
    client
        .batch_execute(&format!(
            "CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 0"
        ))
        .await
        .unwrap();
    let mut reader = settings(&cluster);
    reader.upstream_mut().catalog.user = Some("reader".into());
    let error = read_with(&reader, "postgres").await.unwrap_err();
    assert_eq!(error.failure, Failure::TooManyConnections, "{error}");
    client
        .batch_execute("ALTER ROLE reader CONNECTION LIMIT -1")
        .await
        .unwrap();
    let error = read_with(&reader, "closed").await.unwrap_err();
    assert_eq!(error.failure, Failure::Permission, "{error}");
    // An ordinary role reads all that is needed.
    assert!(read_with(&reader, "postgres").await.is_ok());
}

#[tokio::test]
async fn tls_as_the_mode_says() {
    let cluster = postgres::shared();
    let mut settings = settings(&cluster);
    settings.upstream_mut().tls.mode = TlsMode::Require;
    let service = common::service(&settings);
    let error = service.read("postgres").await.unwrap_err();
    assert_eq!(
        error.failure,
        Failure::Tls,
        "the server has no TLS: {error}"
    );
    settings.upstream_mut().tls.mode = TlsMode::Prefer;
    let service = common::service(&settings);
    service.read("postgres").await.unwrap();
}

/// A CA, and a certificate from it for `localhost`; PEM.
fn identity() -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(authority, key);
    let server_key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
    let server = server.signed_by(&server_key, &issuer).unwrap();
    (authority_pem, server.pem(), server_key.serialize_pem())
}

#[tokio::test]
async fn every_tls_mode_against_a_server_that_requires_tls_and_scram() {
    let (authority, certificate, key) = identity();
    let cluster = Cluster::with_tls((&certificate, &key));
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, authority).unwrap();
    let other_ca = files.path().join("other.pem");
    std::fs::write(&other_ca, identity().0).unwrap();

    let read = async |mode: TlsMode, ca: Option<&Path>, name: &str| {
        let mut settings = settings(&cluster);
        settings.upstream_mut().tls.mode = mode;
        settings.upstream_mut().tls.ca = ca.map(Into::into);
        settings.upstream_mut().tls.server_name = Some(name.into());
        let service = common::service(&settings);
        service.read("postgres").await
    };
    for (mode, ca, name) in [
        (TlsMode::Prefer, None, "localhost"),
        (TlsMode::Require, None, "other.example"),
        (TlsMode::VerifyCa, Some(&*ca), "other.example"),
        (TlsMode::VerifyFull, Some(&*ca), "localhost"),
    ] {
        let contents = read(mode, ca, name).await;
        assert!(contents.is_ok(), "{mode:?}: {contents:?}");
    }
    for (mode, ca, name) in [
        (TlsMode::VerifyCa, &other_ca, "localhost"),
        (TlsMode::VerifyFull, &other_ca, "localhost"),
        (TlsMode::VerifyFull, &ca, "other.example"),
    ] {
        let error = read(mode, Some(ca), name).await.unwrap_err();
        assert_eq!(error.failure, Failure::Tls, "{mode:?}: {error}");
    }
    let error = read(TlsMode::Disable, None, "localhost").await.unwrap_err();
    assert_eq!(
        error.failure,
        Failure::Login,
        "pg_hba has no line for it: {error}"
    );
}
