//! An endpoint that is hostile, or not the cloud's at all.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::fake::says;
use super::*;

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = FakeCloud::start(|_, _| ok(&json!({}))).await;
    let there = format!(
        "http://{}/api/v1/projects/p",
        elsewhere.endpoint.authority()
    );
    let cloud =
        FakeCloud::start(move |_, _| complaint(307, "Moved").with("location", there.clone())).await;
    let error = cloud.by_environment().lookup("p").await.unwrap_err();
    assert!(error.to_string().contains("HTTP 307"), "{error}");
    assert_eq!(elsewhere.seen.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn no_more_is_read_than_an_answer_may_have() {
    let cloud = FakeCloud::start(|seen, _| match &*seen.path {
        "/api/v1/projects/large" => Reply {
            body: format!("{{\"data\": \"{}\"}}", "x".repeat(5 << 20)),
            ..ok(&json!({}))
        },
        "/api/v1/projects/deep" => Reply {
            body: "[".repeat(3 << 20),
            ..ok(&json!({}))
        },
        "/api/v1/projects/error" => Reply {
            body: format!(
                "{{\"Code\": \"x\", \"Message\": \"{}\"}}",
                "x".repeat(3 << 20)
            ),
            ..says(400, &json!({}))
        },
        _ => complaint(403, "NoPermission"),
    })
    .await;
    let provider = cloud.by_environment();
    for (project, expected) in [
        ("large", "length limit exceeded"),
        ("deep", "not understood"),
        ("error", "refused: x"),
    ] {
        let error = provider.lookup(project).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.len() < 1000, "{}", error.len());
    }
}

/// An endpoint that answers everybody with these bytes over and over, with a pause between them.
async fn endless(head: &'static str, more: String, pause: Duration) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let more = more.clone();
            tokio::spawn(async move {
                // Before it is asked, nobody listens to it.
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await?;
                stream.write_all(head.as_bytes()).await?;
                loop {
                    stream.write_all(more.as_bytes()).await?;
                    tokio::time::sleep(pause).await;
                }
                #[allow(unreachable_code)] // says what `?` returns
                std::io::Result::Ok(())
            });
        }
    });
    Endpoint {
        tls: false,
        host: "127.0.0.1".into(),
        port,
    }
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up() {
    let head = "HTTP/1.1 200 OK\r\n";
    let body = "HTTP/1.1 200 OK\r\ncontent-length: 1000000000000\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let slow = Duration::from_millis(50);
    for (head, more, pause, expected) in [
        (body, "{".to_owned(), slow, "no answer within 500ms"),
        (head, "a: b\r\n".to_owned(), slow, "no answer within 500ms"),
        (
            body,
            "x".repeat(1 << 16),
            Duration::ZERO,
            "length limit exceeded",
        ),
        (
            chunked,
            format!("10000\r\n{}\r\n", "x".repeat(1 << 16)),
            Duration::ZERO,
            "length limit exceeded",
        ),
        (
            head,
            format!("a: {}\r\n", "b".repeat(1 << 16)),
            Duration::ZERO,
            "too large",
        ),
    ] {
        let cloud = FakeCloud::start(play).await;
        let mut provider = cloud.by_environment();
        provider.cloud.maxcompute_endpoint = Some(endless(head, more, pause).await);
        let error = provider.lookup("p").await.unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
