//! `osprey ready`: whether an Osprey accepts clients, as its /readyz has it. For the health check of a
//! container, which has no other program to ask with.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::config::Observe;

/// How long connecting and the answer may take together.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than any answer of /readyz.
const LONGEST: u64 = 4096;

/// The variable that says where, as for `serve`.
const VARIABLE: &str = "OSPREY_METRICS";

/// The flags.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where that Osprey serves /readyz, as observe.metrics has it [default: 127.0.0.1:9464]
    ///
    /// Without it, the variable `OSPREY_METRICS` says where, as it does for `serve`.
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) metrics: Option<SocketAddr>,
}

/// Where an Osprey of this environment serves it. As for `serve`, an empty variable is none.
fn configured() -> Result<SocketAddr, String> {
    match std::env::var(VARIABLE).ok().filter(|text| !text.is_empty()) {
        None => Observe::default()
            .metrics
            .ok_or_else(|| "nothing is served by default".to_owned()),
        Some(text) if text == "off" => Err(format!("{VARIABLE} is \"off\": nothing is served")),
        Some(text) => text
            .parse()
            .map_err(|_| format!("{VARIABLE} is {text:?}, which is no ADDR:PORT")),
    }
}

/// Runs the command.
pub(super) fn run(args: &Args) -> ExitCode {
    let address = match args.metrics.map_or_else(configured, Ok) {
        Ok(address) => reachable(address),
        Err(why) => {
            eprintln!("osprey: not ready: {why}");
            return ExitCode::FAILURE;
        }
    };
    match ask(address, PATIENCE) {
        Ok((true, said)) => {
            // Nobody there to be told changes nothing about the answer.
            let _ = writeln!(io::stdout(), "{said}");
            ExitCode::SUCCESS
        }
        Ok((false, said)) => {
            eprintln!("osprey: not ready: {said}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("osprey: http://{address}/readyz: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The address of every interface is one to listen on; from here it is the loopback one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Whether it is ready, and its word on that.
fn ask(address: SocketAddr, patience: Duration) -> io::Result<(bool, String)> {
    let deadline = Instant::now() + patience;
    let mut stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_write_timeout(Some(patience))?;
    // In one piece: who answers the first line and closes would break a second one.
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    let mut limited = stream.take(LONGEST);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        limited.get_ref().set_read_timeout(Some(left))?;
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What a read says that has waited for long enough.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.trim());
    match (answer.starts_with("HTTP/1."), status, body) {
        (true, "200", Some(said)) => Ok((true, said.to_owned())),
        (true, "503", Some(said)) => Ok((false, said.to_owned())),
        _ => Err(io::Error::other("whoever answers there is no Osprey")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// Whoever connects gets this answer, or none and no end.
    fn asked_of(answer: Option<&'static str>) -> io::Result<(bool, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let Some(answer) = answer else {
                return Some(stream);
            };
            let mut request = [0; 512];
            let count = stream.read(&mut request).unwrap();
            assert!(request[..count].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
            None
        });
        let patience = answer.map_or(Duration::from_millis(50), |_| PATIENCE);
        let outcome = ask(address, patience);
        drop(served.join());
        outcome
    }

    #[test]
    fn what_it_answers_is_what_is_told() {
        let said = |status: &'static str| asked_of(Some(status)).unwrap();
        let ready = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\nready\n";
        assert_eq!(said(ready), (true, "ready".to_owned()));
        let draining = "HTTP/1.1 503 Service Unavailable\r\n\r\ndraining\n";
        assert_eq!(said(draining), (false, "draining".to_owned()));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for answer in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 404 \r\n\r\nx",
            "ready 200 \r\n\r\n",
        ] {
            let error = asked_of(Some(answer)).unwrap_err();
            assert!(error.to_string().contains("no Osprey"), "{answer}: {error}");
        }
        assert_eq!(asked_of(None).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn every_interface_is_asked_on_the_loopback_one() {
        for (listens, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:1", "[::1]:1"),
            ("10.0.0.1:9464", "10.0.0.1:9464"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
