//! One HTTP request to one endpoint: HTTP/1.1, TLS with the system's authorities, a deadline for
//! all of it, and a bound on the answer. A connection is made for each request, since a day has few.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::Endpoint;

/// The largest answer that is read: a page of projects is some tens of kilobytes.
const MAX_ANSWER: usize = 4 << 20;

/// Why there is no answer, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct HttpError(String);

impl HttpError {
    fn new(doing: &str, error: impl std::fmt::Display) -> Self {
        Self(format!("{doing}: {error}"))
    }
}

/// Sends a request and reads the whole answer, within `deadline`. `target` is path and query.
pub(crate) async fn send(
    endpoint: &Endpoint,
    method: Method,
    target: &str,
    headers: &[(&'static str, String)],
    body: impl Into<Bytes>,
    deadline: Duration,
) -> Result<Response<Bytes>, HttpError> {
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header("host", endpoint.authority())
        .header("accept", "application/json")
        .header("user-agent", concat!("osprey/", env!("CARGO_PKG_VERSION")));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request
        .body(Full::new(body.into()))
        .map_err(|error| HttpError::new("making the request", error))?;
    let exchange = async {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| HttpError::new("connecting", error))?;
        if !endpoint.tls {
            return converse(stream, request).await;
        }
        let name = ServerName::try_from(endpoint.host.clone())
            .map_err(|error| HttpError::new("the endpoint's name", error))?;
        let stream = TlsConnector::from(tls()?)
            .connect(name, stream)
            .await
            .map_err(|error| HttpError::new("TLS", error))?;
        converse(stream, request).await
    };
    tokio::time::timeout(deadline, exchange)
        .await
        .unwrap_or_else(|_| Err(HttpError(format!("no answer within {deadline:?}"))))
}

async fn converse<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let failed = |error| HttpError::new("HTTP", error);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let answering = async {
        let (head, body) = sender
            .send_request(request)
            .await
            .map_err(failed)?
            .into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| HttpError::new("reading the answer", error))?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    let mut answering = std::pin::pin!(answering);
    // Both are in one future, so that giving up on it leaves no task behind.
    tokio::select! {
        answer = &mut answering => answer,
        // If the connection has ended, whoever waits for the answer is told so.
        _ = &mut connection => answering.await,
    }
}

fn tls() -> Result<Arc<ClientConfig>, HttpError> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(Arc::clone(config));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(HttpError(
            "TLS: this system has no certificate authorities; install them (Debian: \
             ca-certificates)"
                .into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| HttpError::new("TLS", error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::clone(CONFIG.get_or_init(|| Arc::new(config))))
}
