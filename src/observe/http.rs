//! The HTTP endpoint: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and
//! balances processes, `/` for people. HTTP/1.1, GET and HEAD, no login: it belongs on a private
//! address.
//!
//! Whatever a browser of the operator's has open can ask this address, too. So the page and what it
//! reads are answered only by an address or by a name that is known: a hostile page can have any other
//! name lead here, but cannot make the browser say one of these. Nothing here changes anything.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderValue,
    REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::Metrics;
use super::health::{Health, State};
use super::seldom::Seldom;

/// Connections at a time. Who comes then takes the place of the one that has been there longest: a
/// health check is answered within a moment, so it is never the one.
const CONNECTIONS: usize = 64;
/// Of these, the ones that may be answered more than a few bytes at a time; others are told to come
/// again. So most connections are there for health checks.
const LONG_ANSWERS: usize = 16;
/// For a request's head, from the connection's begin.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For one request altogether, its answer read by the client; Prometheus' own default is as long
/// (`scrape_timeout`).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no descriptor left), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
/// The page and its parts: path, type, content.
const PAGE: &[(&str, &str, &str)] = &[
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("http/status.html"),
    ),
    (
        "/status.css",
        "text/css; charset=utf-8",
        include_str!("http/status.css"),
    ),
    (
        "/status.js",
        "text/javascript; charset=utf-8",
        include_str!("http/status.js"),
    ),
];
const JSON: &str = "application/json";
/// What the page may load: its own parts.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the status page shows, and to whom.
pub trait Status: Send + Sync {
    /// True if there is such a page.
    fn is_on(&self) -> bool;

    /// True if browsers may ask for it by this name, in lower case and without its port.
    fn is_named(&self, host: &str) -> bool;

    /// The console's tables as JSON.
    fn tables(&self) -> serde_json::Value;
}

/// What requests are answered from.
struct Site {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    status: Box<dyn Status>,
    long_answers: Arc<Semaphore>,
}

/// Serves until the future is dropped. Each connection has one request, so that an idle one keeps
/// no place.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    status: Box<dyn Status>,
) {
    let site = Arc::new(Site {
        metrics,
        health,
        status,
        long_answers: Arc::new(Semaphore::new(LONG_ANSWERS)),
    });
    let mut connections = Connections::default();
    let failures = Seldom::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.add(connection(stream, Arc::clone(&site))),
            Err(error) => {
                if let Some(left_out) = failures.now() {
                    tracing::warn!(%error, left_out, "metrics: accept failed");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The connections that are open, the oldest in front.
#[derive(Default)]
struct Connections {
    tasks: VecDeque<AbortHandle>,
}

impl Connections {
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.tasks.retain(|task| !task.is_finished());
        if self.tasks.len() >= CONNECTIONS
            && let Some(oldest) = self.tasks.pop_front()
        {
            oldest.abort();
        }
        self.tasks
            .push_back(tokio::spawn(connection).abort_handle());
    }
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    // Held to the end: what hyper has buffered, the client has not read yet.
    let place = OnceLock::new();
    let service = service_fn(|request: Request<Incoming>| {
        let answer = site.answer(&request, &place);
        async { Ok::<_, Infallible>(answer) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // It does not matter how a scraper's connection ends: what it missed, it asks for again.
    let _ = tokio::time::timeout(REQUEST_TIMEOUT, connection).await;
}

type Answer = Response<Full<Bytes>>;

impl Site {
    /// The answer to one request; a long one takes a place, which goes to `place`.
    fn answer(
        &self,
        request: &Request<impl Sized>,
        place: &OnceLock<OwnedSemaphorePermit>,
    ) -> Answer {
        let (method, path) = (request.method(), request.uri().path());
        let part = PAGE.iter().find(|(known, ..)| *known == path);
        let is_status = path == "/status.json" || part.is_some();
        if !(is_status || matches!(path, "/metrics" | "/healthz" | "/readyz")) {
            let text = "there are /, /metrics, /healthz, /readyz\n";
            return page(StatusCode::NOT_FOUND, TEXT, text);
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = "GET and HEAD only\n";
            let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        if is_status && let Some(refusal) = self.refuses_status(request) {
            return refusal;
        }
        match (path, part) {
            ("/healthz", _) => return page(StatusCode::OK, TEXT, "ok\n"),
            ("/readyz", _) => return self.readiness(),
            (_, Some((_, content_type, content))) => {
                return page(StatusCode::OK, content_type, *content);
            }
            _ => {}
        }
        let Ok(taken) = Arc::clone(&self.long_answers).try_acquire_owned() else {
            let text = "too many scrapes at a time; come again\n";
            let mut refusal = page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
            let later = HeaderValue::from_static("5");
            refusal.headers_mut().insert(RETRY_AFTER, later);
            return refusal;
        };
        // One request, one place.
        let _ = place.set(taken);
        if is_status {
            let status = serde_json::json!({
                "state": self.health.state().word(),
                "tables": self.status.tables(),
            });
            return page(StatusCode::OK, JSON, status.to_string());
        }
        match self.metrics.render() {
            Ok(text) => page(StatusCode::OK, EXPOSITION, text),
            Err(error) => page(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                format!("{error}\n"),
            ),
        }
    }

    /// Why the status page is not shown, if it is not.
    fn refuses_status(&self, request: &Request<impl Sized>) -> Option<Answer> {
        if !self.status.is_on() {
            let text = "there are /metrics, /healthz, /readyz; the status page is off here: \
                        observe.status_page = \"on\" shows it\n";
            return Some(page(StatusCode::NOT_FOUND, TEXT, text));
        }
        let host = request.headers().get(HOST);
        let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
        let name = name_of(host);
        let known =
            name.parse::<IpAddr>().is_ok() || name == "localhost" || self.status.is_named(&name);
        (!known).then(|| {
            let text = "the status page is not shown by this name: ask by an address, or name the host \
                        in observe.status_hosts\n";
            page(StatusCode::MISDIRECTED_REQUEST, TEXT, text)
        })
    }

    fn readiness(&self) -> Answer {
        let state = self.health.state();
        let status = if state == State::Ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        page(status, TEXT, format!("{}\n", state.word()))
    }
}

/// The name in a Host header, in lower case, without its port and an IPv6 address' brackets.
fn name_of(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => address,
        Some((address, behind)) if behind.starts_with(':') => address,
        _ => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.to_ascii_lowercase()
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests;
