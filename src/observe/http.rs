//! The HTTP endpoint: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and
//! balances processes, `/` for people. HTTP/1.1, GET and HEAD, no login: it belongs on a private
//! address.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Metrics;
use super::health::{Health, State};

/// Connections at a time; the next one waits in the system's queue.
const CONNECTIONS: usize = 64;
/// For each request's head, the wait for it included; so an idle connection is not kept either.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// For one connection altogether: longer than any scrape interval is worth keeping it for.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(5);
/// After a failed accept (no descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";

/// Serves until the future is dropped.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return; // Nobody closes the semaphore.
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let connection =
                    connection(stream, Arc::clone(&metrics), Arc::clone(&health), place);
                tokio::spawn(connection);
            }
            Err(error) => {
                tracing::warn!(%error, "metrics: accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &metrics, &health);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // It does not matter how a scraper's connection ends: what it missed, it asks for again.
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
}

type Answer = Response<Full<Bytes>>;

fn answer(method: &Method, path: &str, metrics: &Metrics, health: &Health) -> Answer {
    let page = match path {
        "/" => page(StatusCode::OK, HTML, status_page(metrics, health)),
        "/metrics" => match metrics.render() {
            Ok(text) => page(StatusCode::OK, EXPOSITION, text),
            Err(error) => page(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                format!("{error}\n"),
            ),
        },
        "/healthz" => page(StatusCode::OK, TEXT, "ok\n".into()),
        "/readyz" => {
            let state = health.state();
            let ready = state == State::Ready;
            let status = if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            page(status, TEXT, format!("{}\n", state.word()))
        }
        _ => page(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /, /metrics, /healthz, /readyz\n".into(),
        ),
    };
    if page.status() == StatusCode::NOT_FOUND || matches!(*method, Method::GET | Method::HEAD) {
        return page;
    }
    let text = "GET and HEAD only\n";
    let mut refusal = self::page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text.into());
    refusal
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    refusal
}

fn page(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn status_page(metrics: &Metrics, health: &Health) -> String {
    let seconds = Instant::now().duration_since(metrics.started()).as_secs();
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><title>Osprey</title></head><body>\n\
         <h1>Osprey {}</h1>\n\
         <p>{}; up {} d {:02} h {:02} min; {} sessions open</p>\n<ul>\n",
        env!("CARGO_PKG_VERSION"),
        health.state().word(),
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60,
        metrics.active_sessions(),
    );
    for (path, what) in [
        ("/metrics", "for Prometheus"),
        ("/healthz", "200 while the process lives"),
        (
            "/readyz",
            "200 while it accepts connections, 503 before and while it drains",
        ),
    ] {
        // Writing to a String does not fail.
        let _ = writeln!(html, "<li><a href=\"{path}\">{path}</a>: {what}</li>");
    }
    html + "</ul>\n</body></html>\n"
}

#[cfg(test)]
mod tests;
