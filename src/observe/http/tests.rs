//! The HTTP endpoint, spoken to over a socket.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// A page that is known by the name osprey.
struct Shown;

impl Status for Shown {
    fn is_on(&self) -> bool {
        true
    }

    fn is_named(&self, host: &str) -> bool {
        host == "osprey"
    }

    fn tables(&self) -> serde_json::Value {
        serde_json::json!([{"name": "keys", "rows": [["</script><script>"]]}])
    }
}

fn start() -> (SocketAddr, Arc<Health>) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // What it accepts has as little room.
    socket.set_send_buffer_size(1).unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::new(1, [], []));
    metrics.ask_measured(|| {
        let mut known = crate::observe::Measured::default();
        known.open.sessions = 1;
        known
    });
    let status = Box::new(Shown);
    tokio::spawn(serve(listener, metrics, Arc::clone(&health), status));
    (address, health)
}

/// Status and the whole answer to one request on a connection of its own.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    ask_by(address, "osprey", method, path).await
}

/// The same by another name of the server's.
async fn ask_by(address: SocketAddr, host: &str, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

#[tokio::test]
async fn metrics_are_served_as_exposition() {
    let (address, _) = start();
    let (status, text) = ask(address, "GET", "/metrics?x=1").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("content-type: text/plain; version=0.0.4; charset=utf-8"),
        "{text}"
    );
    assert!(text.contains("\nosprey_sessions 1\n"), "{text}");
}

#[tokio::test]
async fn probes_follow_the_state() {
    let (address, health) = start();
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    assert_eq!(
        ask(address, "GET", "/readyz").await.0,
        503,
        "not yet accepting"
    );
    health.ready();
    assert_eq!(ask(address, "GET", "/readyz").await.0, 200);
    health.draining(Duration::ZERO);
    let (status, text) = ask(address, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(text.ends_with("draining\n"), "{text}");
    assert_eq!(
        ask(address, "GET", "/healthz").await.0,
        200,
        "draining is alive"
    );
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let (address, _) = start();
    assert_eq!(ask(address, "GET", "/nothing").await.0, 404);
    assert_eq!(ask(address, "POST", "/nothing").await.0, 404);
    let (status, text) = ask(address, "POST", "/metrics").await;
    assert_eq!(status, 405);
    assert!(text.contains("allow: GET, HEAD"), "{text}");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let (address, _) = start();
    let (status, text) = ask(address, "HEAD", "/healthz").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("content-length: 3") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_page_has_its_parts_and_may_load_nothing_else() {
    let (address, _) = start();
    for (path, content_type) in [
        ("/", "text/html"),
        ("/status.css", "text/css"),
        ("/status.js", "text/javascript"),
        ("/status.json", "application/json"),
    ] {
        let (status, text) = ask(address, "GET", path).await;
        assert_eq!(status, 200, "{path}");
        let head = text.split("\r\n\r\n").next().unwrap();
        assert!(
            head.contains(&format!("content-type: {content_type}")),
            "{head}"
        );
        assert!(head.contains("content-security-policy: default-src 'none'; script-src 'self'"));
        assert!(!head.contains("access-control"), "{head}");
        assert_eq!(ask(address, "POST", path).await.0, 405);
    }
    let (_, text) = ask(address, "GET", "/").await;
    assert!(
        ["metrics", "healthz", "readyz"]
            .iter()
            .all(|path| text.contains(path))
    );
}

#[tokio::test]
async fn by_a_strange_name_nothing_is_shown() {
    let (address, _) = start();
    for (host, shown) in [
        ("osprey", true),
        ("OSPREY:9464", true),
        ("localhost:9464", true),
        ("127.0.0.1", true),
        ("[::1]:9464", true),
        ("evil.example", false),
        ("osprey.evil.example:80", false),
        ("[::1].evil.example", false),
        ("127.0.0.1.evil.example", false),
        ("", false),
    ] {
        for path in ["/", "/status.js", "/status.json"] {
            let status = ask_by(address, host, "GET", path).await.0;
            assert_eq!(status, if shown { 200 } else { 421 }, "{host:?} {path}");
        }
        for path in ["/metrics", "/healthz"] {
            assert_eq!(ask_by(address, host, "GET", path).await.0, 200);
        }
    }
}

/// Connections on which `bytes` were sent, and of which nothing is read; the peer's buffers are as
/// small as they get.
async fn who_do_not_read(count: usize, bytes: &[u8], address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        streams.push(stream);
    }
    streams
}

const SCRAPE: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: osprey\r\n\r\n";
/// Well below every deadline of a connection's.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_health_check_waits_for_nobody() {
    for bytes in [SCRAPE, b"GET /metrics HTTP/1.1\r\n", b""] {
        let (address, _) = start();
        let _others = who_do_not_read(2 * CONNECTIONS, bytes, address).await;
        let asked = tokio::time::timeout(SOON, ask(address, "GET", "/healthz"));
        assert_eq!(asked.await.expect("an answer soon").0, 200);
    }
}

#[tokio::test]
async fn scrapes_that_are_not_read_keep_no_place_for_ever() {
    let (address, _) = start();
    let mut others = who_do_not_read(LONG_ANSWERS, SCRAPE, address).await;
    // All of them have been answered, as far as that goes, once this one is.
    let refused = async { while ask(address, "GET", "/metrics").await.0 != 503 {} };
    tokio::time::timeout(SOON, refused).await.expect("no place");
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    tokio::time::pause();
    tokio::time::advance(REQUEST_TIMEOUT).await;
    assert_eq!(ask(address, "GET", "/metrics").await.0, 200);
    let mut rest = Vec::new();
    // Cut off in the middle, however that shows.
    let _ = others[0].read_to_end(&mut rest).await;
    assert!(!String::from_utf8_lossy(&rest).contains("process_start_time_seconds "));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asks_is_closed() {
    let (address, _) = start();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    // The clock stands still except when all tasks wait: then it goes on to the head's deadline.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}
