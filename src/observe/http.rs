//! The HTTP endpoint: `/metrics` for Prometheus, `/healthz` and `/readyz` for whoever starts and
//! balances processes, `/` for people. HTTP/1.1, GET and HEAD, no login: it belongs on a private
//! address.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

use super::Metrics;
use super::health::{Health, State};

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
const HTML: &str = "text/html; charset=utf-8";

/// What requests are answered from.
struct Site {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    long_answers: Arc<Semaphore>,
}

/// Serves until the future is dropped. Each connection has one request, so that an idle one keeps
/// no place.
pub async fn serve(listener: TcpListener, metrics: Arc<Metrics>, health: Arc<Health>) {
    let site = Arc::new(Site {
        metrics,
        health,
        long_answers: Arc::new(Semaphore::new(LONG_ANSWERS)),
    });
    let mut connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => connections.add(connection(stream, Arc::clone(&site))),
            Err(error) => {
                tracing::warn!(%error, "metrics: accept failed");
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
        let answer = site.answer(request.method(), request.uri().path(), &place);
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
        method: &Method,
        path: &str,
        place: &OnceLock<OwnedSemaphorePermit>,
    ) -> Answer {
        if !matches!(path, "/" | "/metrics" | "/healthz" | "/readyz") {
            let text = "there are /, /metrics, /healthz, /readyz\n";
            return page(StatusCode::NOT_FOUND, TEXT, text.into());
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = "GET and HEAD only\n";
            let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, text.into());
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(ALLOW, allowed);
            return refusal;
        }
        match path {
            "/healthz" => return page(StatusCode::OK, TEXT, "ok\n".into()),
            "/readyz" => return self.readiness(),
            _ => {}
        }
        let Ok(taken) = Arc::clone(&self.long_answers).try_acquire_owned() else {
            let text = "too many scrapes at a time; come again\n";
            let mut refusal = page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text.into());
            let later = HeaderValue::from_static("5");
            refusal.headers_mut().insert(RETRY_AFTER, later);
            return refusal;
        };
        // One request, one place.
        let _ = place.set(taken);
        if path == "/" {
            return page(
                StatusCode::OK,
                HTML,
                status_page(&self.metrics, &self.health),
            );
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
