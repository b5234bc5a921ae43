//! The `osprey` binary with a simulated Hologres behind and a simulated cloud beside it: the cloud's
//! word on keys is asked for once, outlives a restart, and reaches `doctor` and `explain`.

#![allow(clippy::unwrap_used)] // a panic is the failure's report

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use osprey::simulator::demo::{DATABASE, ENCRYPTED_PROJECT};
use osprey::simulator::{Engine, Options, Simulator};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_postgres::{Config, NoTls};
use tokio_rustls::TlsAcceptor;

const KEY: &str = "05754286-3ba2-4fa6-8d41-4323aca6a0b1";

/// What was asked, in order: the action and, for a project, its path.
type Asked = Arc<Mutex<Vec<String>>>;

/// A cloud that keeps lists to itself and knows two projects. (What signatures must be like, the
/// library's own tests check.)
async fn cloud(tls: Option<TlsAcceptor>) -> (u16, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked: Asked = Arc::default();
    let all = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let all = Arc::clone(&all);
            let service = service_fn(move |request: Request<_>| {
                let answer = answer(&request, &all);
                async { Ok::<_, Infallible>(answer) }
            });
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = hyper::server::conn::http1::Builder::new();
                match tls {
                    None => http.serve_connection(TokioIo::new(stream), service).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                        // A client that does not trust the certificate goes away.
                        Err(_) => Ok(()),
                    },
                }
            });
        }
    });
    (port, asked)
}

fn answer(
    request: &Request<hyper::body::Incoming>,
    all: &Mutex<Vec<String>>,
) -> Response<Full<Bytes>> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    let signed = header("authorization").unwrap_or_default();
    assert!(
        signed.starts_with("ACS3-HMAC-SHA256 Credential=the-id,"),
        "{signed}"
    );
    let action = header("x-acs-action").unwrap();
    let project = request.uri().path().rsplit('/').next().unwrap();
    all.lock()
        .unwrap()
        .push(format!("{action} {project}").trim().to_owned());
    let encryption = if project == ENCRYPTED_PROJECT {
        json!({"enable": true, "algorithm": "AES256", "key": KEY})
    } else {
        json!({"enable": false})
    };
    let (status, body) = match action {
        "GetProject" => (
            200,
            json!({"data": {"name": project, "properties": {"encryption": encryption}}}),
        ),
        "DescribeKey" => (
            200,
            json!({"KeyMetadata": {"KeyState": "Disabled", "Origin": "Aliyun_KMS"}}),
        ),
        _ => (
            403,
            json!({"Code": "NoPermission", "Message": "not for you"}),
        ),
    };
    Response::builder()
        .status(status)
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap()
}

struct SetUp {
    simulator: Simulator,
    asked: Asked,
    directory: TempDir,
}

impl SetUp {
    async fn new() -> Self {
        Self::with("http://127.0.0.1", None).await
    }

    async fn with(cloud_at: &str, tls: Option<TlsAcceptor>) -> Self {
        let simulator = Simulator::start(Options::default()).await.unwrap();
        let (port, asked) = cloud(tls).await;
        let directory = tempfile::tempdir().unwrap();
        let endpoint = format!("\"{cloud_at}:{port}\"");
        let text = format!(
            "[listen]\naddresses = [\"127.0.0.1:0\"]\n[upstream]\naddress = \"{}\"\n\
             [catalog]\nuser = \"svc\"\n[observe]\nmetrics = \"off\"\n\
             [keys]\nsnapshot = \"{}\"\n[keys.cloud]\nregion = \"cn-test\"\n\
             credentials = \"environment\"\nmaxcompute_endpoint = {endpoint}\n\
             kms_endpoint = {endpoint}\nram_endpoint = {endpoint}\n",
            simulator.address(),
            directory.path().join("keys.json").display()
        );
        std::fs::write(directory.path().join("osprey.toml"), text).unwrap();
        Self {
            simulator,
            asked,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn osprey(&self, command: &str) -> Command {
        let mut osprey = Command::new(env!("CARGO_BIN_EXE_osprey"));
        osprey
            .args([command, "--config"])
            .arg(self.path("osprey.toml"))
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "the-id")
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "the-secret");
        osprey
    }

    async fn run(&self, command: &str, arguments: &[&str]) -> Output {
        let mut osprey = self.osprey(command);
        osprey.args(arguments);
        tokio::task::spawn_blocking(move || osprey.output().unwrap())
            .await
            .unwrap()
    }

    fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        asked.sort();
        asked
    }
}

/// `osprey serve`, ended when dropped.
struct Serving {
    child: Child,
    port: u16,
}

impl Serving {
    fn start(set_up: &SetUp) -> Self {
        let mut child = set_up
            .osprey("serve")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let port = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| {
                let rest = line.strip_prefix("osprey: accepting connections on 127.0.0.1:")?;
                rest.split(',').next()?.parse().ok()
            })
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port }
    }

    async fn reads_encrypted_data(&self) {
        let (client, connection) = Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user("analyst")
            .dbname(DATABASE)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        let rows = client.query("SELECT * FROM sales_encrypted", &[]).await;
        assert!(!rows.unwrap().is_empty());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn holds(path: &Path, text: &str) {
    for _ in 0..500 {
        if std::fs::read_to_string(path).is_ok_and(|found| found.contains(text)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{} never held {text}", path.display());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_project_is_looked_up_once_and_not_again_after_a_restart() {
    // A thousand clients take more files than the 1,024 that an ordinary user's shell begins with.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            ..limit
        },
    )
    .unwrap();
    let set_up = SetUp::new().await;
    let serving = Serving::start(&set_up);
    let thousand = (0..1_000).map(|_| serving.reads_encrypted_data());
    futures::future::join_all(thousand).await;
    let lookups = [
        "DescribeKey".to_owned(),
        format!("GetProject {ENCRYPTED_PROJECT}"),
        "GetProject finance_plain".to_owned(),
        "ListProjects projects".to_owned(),
    ];
    assert_eq!(set_up.asked(), lookups);
    let table = "public.sales_encrypted";
    assert_eq!(set_up.simulator.scans(Engine::Hqe, table).failed, 0);
    holds(&set_up.path("keys.json"), ENCRYPTED_PROJECT).await;
    drop(serving);

    let serving = Serving::start(&set_up);
    let thousand = (0..1_000).map(|_| serving.reads_encrypted_data());
    futures::future::join_all(thousand).await;
    assert_eq!(set_up.asked(), [""; 0], "all of it was known");
    assert_eq!(set_up.simulator.scans(Engine::Hqe, table).failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cloud_is_asked_over_tls_and_must_be_who_it_says() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let set_up = SetUp::with(
        "https://localhost",
        Some(TlsAcceptor::from(Arc::new(config))),
    )
    .await;
    std::fs::write(set_up.path("ca.pem"), made.cert.pem()).unwrap();
    for (trusted, expected) in [(true, true), (false, false)] {
        let mut osprey = set_up.osprey("explain");
        osprey.args(["--database", DATABASE, "--json", "SELECT * FROM revenue"]);
        if trusted {
            osprey.env("SSL_CERT_FILE", set_up.path("ca.pem"));
        } else {
            osprey.env_remove("SSL_CERT_FILE");
        }
        let output = tokio::task::spawn_blocking(move || osprey.output().unwrap())
            .await
            .unwrap();
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["protected"], expected, "{output:?}");
        let not_known = said["not_looked_up"].as_array().unwrap();
        let by_tls = |failed: &Value| failed["error"].as_str().unwrap().contains("TLS");
        assert_eq!(not_known.len(), if trusted { 0 } else { 2 }, "{said:#}");
        assert!(not_known.iter().all(by_tls), "{said:#}");
        assert_eq!(!set_up.asked().is_empty(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn doctor_and_explain_tell_what_the_cloud_says() {
    let set_up = SetUp::new().await;
    let output = set_up
        .run("doctor", &["--database", DATABASE, "--json"])
        .await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["status"], "broken");
    let findings = report["findings"].as_array().unwrap();
    let about = |text: &str| {
        let mut about = findings.iter();
        let finding = about.find(|f| f["found"].as_str().unwrap().contains(text));
        finding.unwrap_or_else(|| panic!("nothing about {text}: {report:#}"))
    };
    let key = about("Disabled");
    assert_eq!(key["level"], "broken");
    assert!(key["mend"].as_str().unwrap().contains(KEY));
    assert_eq!(
        about("cannot be checked: refused: NoPermission")["level"],
        "warning"
    );
    assert!(set_up.asked().contains(&"GetRole".to_owned()));

    let statement = "SELECT * FROM revenue";
    let arguments = ["--database", DATABASE, "--json", statement];
    let output = set_up.run("explain", &arguments).await;
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["reasons"][0]["record"]["origin"], "cloud");
    assert_eq!(said["reasons"][0]["record"]["key"]["state"], "Disabled");
    assert!(
        !set_up.path("keys.json").exists(),
        "serve's file is its own"
    );
}
