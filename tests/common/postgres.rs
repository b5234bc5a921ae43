//! A PostgreSQL cluster of the test's own: fresh data directory, free loopback port, scram-sha-256
//! for everyone, gone when dropped. `OSPREY_POSTGRES=11` makes it one of PostgreSQL 11, on which
//! Hologres is built.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// The superuser, and the password of every role that the harness makes.
pub(crate) const SUPERUSER: &str = "postgres";
pub(crate) const PASSWORD: &str = "correct horse";

pub(crate) struct Cluster {
    directory: TempDir,
    binaries: PathBuf,
    pub(crate) port: u16,
}

/// The cluster that all tests of one binary share; it goes when the last of them lets go of it.
pub(crate) fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(None));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

impl Cluster {
    /// One that refuses every connection without TLS. `identity`: certificate and key in PEM.
    #[allow(dead_code)] // not every test binary that shares this module needs it
    pub(crate) fn with_tls(identity: (&str, &str)) -> Self {
        Self::start(Some(identity))
    }

    fn start(identity: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // PostgreSQL refuses to run as root, so the directory is handed to its user.
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o711)).unwrap();
        let binaries = binaries(directory.path());
        let home = directory.path().join("home");
        std::fs::create_dir(&home).unwrap();
        let password = directory.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        std::fs::set_permissions(&password, PermissionsExt::from_mode(0o644)).unwrap();
        if is_root() {
            succeed(Command::new("chown").arg(SUPERUSER).arg(&home));
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let cluster = Self {
            directory,
            binaries,
            port,
        };
        succeed(
            cluster
                .command("initdb")
                .args([
                    "--no-sync",
                    "-A",
                    "scram-sha-256",
                    "-E",
                    "UTF8",
                    "--locale",
                    "C",
                ])
                .args(["-U", SUPERUSER, "--pwfile"])
                .arg(&password)
                .arg("-D")
                .arg(cluster.data()),
        );
        let mut options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        );
        if let Some((certificate, key)) = identity {
            options.push_str(" -c ssl=on");
            for (name, text) in [
                ("server.crt", certificate),
                ("server.key", key),
                (
                    "pg_hba.conf",
                    "hostssl all all 127.0.0.1/32 scram-sha-256\n",
                ),
            ] {
                let path = cluster.data().join(name);
                std::fs::write(&path, text).unwrap();
                std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
                if is_root() {
                    succeed(Command::new("chown").arg(SUPERUSER).arg(&path));
                }
            }
        }
        succeed(
            cluster
                .command("pg_ctl")
                .args(["-w", "-o", &options, "-l"])
                .arg(cluster.directory.path().join("home/log"))
                .arg("-D")
                .arg(cluster.data())
                .arg("start"),
        );
        cluster
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("home/data")
    }

    /// One of PostgreSQL's programs, run as a user that it accepts.
    fn command(&self, program: &str) -> Command {
        let program = self.binaries.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", SUPERUSER, "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(self.directory.path());
        if self.binaries.starts_with(self.directory.path()) {
            command.env("LD_LIBRARY_PATH", self.binaries.with_file_name("lib"));
        }
        command
    }

    /// A superuser's connection to `database`.
    pub(crate) async fn connect(&self, database: &str) -> Client {
        let (client, connection) = tokio_postgres::Config::new()
            .host("127.0.0.1")
            .port(self.port)
            .user(SUPERUSER)
            .password(PASSWORD)
            .dbname(database)
            .connect(NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// Which PostgreSQL this is: 15, or 11.
    #[allow(dead_code)] // not every test binary that shares this module needs it
    pub(crate) async fn major_version(client: &Client) -> u32 {
        let row = client
            .query_one("SHOW server_version_num", &[])
            .await
            .unwrap();
        row.get::<_, &str>(0).parse::<u32>().unwrap() / 10_000
    }

    /// Makes a database and connects to it.
    #[allow(dead_code)] // not every test binary that shares this module needs it
    pub(crate) async fn database(&self, name: &str) -> Client {
        let client = self.connect("postgres").await;
        client
            .batch_execute(&format!("CREATE DATABASE \"{name}\""))
            .await
            .unwrap();
        self.connect(name).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["-m", "immediate", "-w", "-D"])
            .arg(self.data())
            .arg("stop");
        // A test may be failing already: say it, do not panic again.
        match stop.output() {
            Ok(output) if output.status.success() => {}
            other => eprintln!("PostgreSQL was not stopped: {other:?}"),
        }
    }
}

/// The server's programs. Debian puts each version's in a directory of its own, out of PATH; those of
/// PostgreSQL 11 are copied into `directory`, because the server's user may not be able to go
/// where they were unpacked.
fn binaries(directory: &Path) -> PathBuf {
    match std::env::var("OSPREY_POSTGRES").as_deref() {
        Ok("11") => {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/postgres/eleven");
            let output = succeed(&mut Command::new(script));
            let found = String::from_utf8(output.stdout).unwrap();
            let copy = directory.join("postgresql");
            succeed(Command::new("cp").arg("-r").arg(found.trim()).arg(&copy));
            return copy.join("bin");
        }
        Ok("15") | Err(_) => {}
        Ok(other) => panic!("OSPREY_POSTGRES={other}: the tests run on 15 and on 11"),
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|directory| directory.join("initdb").exists())
        .collect();
    found.sort();
    if let Some(newest) = found.pop() {
        return newest;
    }
    let output = Command::new("pg_config").arg("--bindir").output();
    let output =
        output.expect("PostgreSQL's server programs are needed; ./tests/run installs them");
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn is_root() -> bool {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(Path::new("/proc/self")).unwrap()) == 0
}

fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
