//! The HTTP endpoint, spoken to over a socket.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

async fn start() -> (std::net::SocketAddr, Arc<Health>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = Arc::new(Health::default());
    let metrics = Arc::new(Metrics::new(1, [], []));
    metrics.ask_measured(|| {
        let mut known = crate::observe::Measured::default();
        known.open.sessions = 1;
        known
    });
    tokio::spawn(serve(listener, metrics, Arc::clone(&health)));
    (address, health)
}

/// Status and the whole answer to one request on a connection of its own.
async fn ask(address: std::net::SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: osprey\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    (status, text)
}

#[tokio::test]
async fn metrics_are_served_as_exposition() {
    let (address, _) = start().await;
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
    let (address, health) = start().await;
    assert_eq!(ask(address, "GET", "/healthz").await.0, 200);
    assert_eq!(
        ask(address, "GET", "/readyz").await.0,
        503,
        "not yet accepting"
    );
    health.ready();
    assert_eq!(ask(address, "GET", "/readyz").await.0, 200);
    health.draining();
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
    let (address, _) = start().await;
    assert_eq!(ask(address, "GET", "/nothing").await.0, 404);
    assert_eq!(ask(address, "POST", "/nothing").await.0, 404);
    let (status, text) = ask(address, "POST", "/metrics").await;
    assert_eq!(status, 405);
    assert!(text.contains("allow: GET, HEAD"), "{text}");
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let (address, _) = start().await;
    let (status, text) = ask(address, "HEAD", "/healthz").await;
    assert_eq!(status, 200);
    assert!(
        text.contains("content-length: 3") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
}

#[tokio::test]
async fn the_first_page_lists_the_others() {
    let (address, _) = start().await;
    let (status, text) = ask(address, "GET", "/").await;
    assert_eq!(status, 200);
    assert!(
        ["/metrics", "/healthz", "/readyz"]
            .iter()
            .all(|path| text.contains(path)),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_never_asks_is_closed_and_gives_its_place_back() {
    let (address, _) = start().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\n")
            .await
            .unwrap();
        idle.push(stream);
    }
    // The clock stands still except when all tasks wait: then it goes on to the head's deadline.
    let (status, _) = ask(address, "GET", "/healthz").await;
    assert_eq!(status, 200);
    let mut rest = Vec::new();
    idle[0].read_to_end(&mut rest).await.unwrap();
}
