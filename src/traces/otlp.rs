//! The spans, and how they are sent.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, TracerProvider as _,
};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;

use super::{Ended, Sent, SessionStart};
use crate::config::{Endpoint, Observe};
use crate::net::http;

/// How long a collector may take for one batch.
const DEADLINE: Duration = Duration::from_secs(10);

/// Where spans are sent, if anywhere.
#[derive(Debug, Default)]
pub struct Traces(Option<(SdkTracerProvider, SdkTracer)>);

impl Traces {
    /// Sends spans as the settings say, over connections of `runtime`.
    ///
    /// # Errors
    ///
    /// In words, why none can be sent.
    pub fn start(settings: &Observe, runtime: &Handle) -> Result<Self, String> {
        let Some(endpoint) = &settings.traces else {
            return Ok(Self::default());
        };
        let client = Client {
            endpoint: endpoint.clone(),
            runtime: runtime.clone(),
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("http://{}/v1/traces", endpoint.authority()))
            .with_timeout(DEADLINE)
            .build()
            .map_err(|error| error.to_string())?;
        let of_all = Sampler::TraceIdRatioBased(f64::from(settings.trace_percent) / 100.0);
        let service = Resource::builder()
            .with_service_name("osprey")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(of_all)))
            .with_resource(service)
            .build();
        let scope = InstrumentationScope::builder("osprey").build();
        let tracer = provider.tracer_with_scope(scope);
        Ok(Self(Some((provider, tracer))))
    }

    /// The trace of a session that has logged in, with the span of its login.
    pub fn session(&self, start: &SessionStart<'_>) -> Option<Box<SessionTrace>> {
        let (_, tracer) = self.0.as_ref()?;
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let attributes = vec![
            KeyValue::new("osprey.session", number(start.id)),
            KeyValue::new("client.address", start.peer.ip().to_canonical().to_string()),
            KeyValue::new("client.port", i64::from(start.peer.port())),
            KeyValue::new("user.name", start.user.to_owned()),
            KeyValue::new("db.namespace", start.database.to_owned()),
            KeyValue::new("osprey.upstream", start.upstream.to_owned()),
        ];
        let span = SpanBuilder::from_name("session")
            .with_kind(SpanKind::Server)
            .with_start_time(start.began)
            .with_attributes(attributes)
            .start_with_context(tracer, &Context::new());
        let session = Context::new().with_span(span);
        SpanBuilder::from_name("login")
            .with_kind(SpanKind::Internal)
            .with_start_time(start.began)
            .start_with_context(tracer, &session)
            .end();
        Some(Box::new(SessionTrace {
            tracer: tracer.clone(),
            session,
            database: start.database.to_owned(),
            sent: None,
            met: None,
        }))
    }

    /// Sends what is left, for as long as `patience`. Blocks.
    pub fn end(&self, patience: Duration) {
        if let Some((provider, _)) = &self.0
            && let Err(error) = provider.shutdown_with_timeout(patience)
        {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// The trace of one session.
#[derive(Debug)]
pub struct SessionTrace {
    tracer: SdkTracer,
    session: Context,
    database: String,
    /// The first statement of the present cycle. What is bound to a statement that was prepared
    /// earlier has none.
    sent: Option<Sent>,
    /// The code of the error that the present cycle has met.
    met: Option<&'static str>,
}

impl SessionTrace {
    /// A statement was sent.
    pub fn sent(&mut self, sent: Sent) {
        self.sent.get_or_insert(sent);
    }

    /// An error was rewritten that has this code, or made Osprey run the statement again.
    pub fn met(&mut self, code: &'static str) {
        self.met = Some(code);
    }

    /// A cycle has ended.
    pub fn ended(&mut self, ended: &Ended) {
        let Sent {
            operation,
            text,
            trace_parent,
            relation,
        } = self.sent.take().unwrap_or_default();
        let operation = if operation.is_empty() {
            "statement".to_owned()
        } else {
            operation
        };
        let met = self.met.take();
        let end = SystemTime::now();
        let start = end.checked_sub(ended.took).unwrap_or(end);
        let mut attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", self.database.clone()),
            KeyValue::new("db.operation.name", operation.clone()),
            KeyValue::new("osprey.engine", ended.engine),
            KeyValue::new("osprey.protocol", ended.protocol),
        ];
        attributes.extend(text.map(|text| KeyValue::new("db.query.text", text)));
        attributes.extend(relation.map(|name| KeyValue::new("osprey.relation", name)));
        let mut span = SpanBuilder::from_name(format!("{operation} {}", self.database))
            .with_kind(SpanKind::Server)
            .with_start_time(start)
            .with_attributes(attributes);
        let remote = trace_parent.as_deref().and_then(remote_context);
        let parent = match remote {
            None => self.session.clone(),
            Some(remote) => {
                let of_session = self.session.span().span_context().clone();
                span = span.with_links(vec![Link::with_context(of_session)]);
                Context::new().with_remote_span_context(remote)
            }
        };
        let mut span = span.start_with_context(&self.tracer, &parent);
        if let Some(after) = ended.failed_after {
            let here = Context::new().with_remote_span_context(span.span_context().clone());
            let mut first = SpanBuilder::from_name("first run")
                .with_kind(SpanKind::Internal)
                .with_start_time(start)
                .start_with_context(&self.tracer, &here);
            first.set_status(Status::error(met.unwrap_or_default()));
            first.end_with_timestamp(start.checked_add(after).unwrap_or(end));
        } else if let Some(code) = met {
            span.set_attribute(KeyValue::new("error.type", code));
            span.set_status(Status::error(code));
        }
        span.end_with_timestamp(end);
    }

    /// The session has ended, for this reason.
    pub fn close(&mut self, reason: &'static str) {
        let span = self.session.span();
        span.set_attribute(KeyValue::new("osprey.close_reason", reason));
        span.end();
    }
}

/// The span that a `traceparent` names.
fn remote_context(trace_parent: &str) -> Option<SpanContext> {
    let mut parts = trace_parent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = TraceFlags::new(u8::from_str_radix(parts.next()?, 16).ok()?);
    Some(SpanContext::new(trace, span, flags, true, TraceState::NONE))
}

/// What carries the batches: they are made on a thread that no runtime knows of.
#[derive(Debug)]
struct Client {
    endpoint: Endpoint,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let endpoint = self.endpoint.clone();
        let (head, body) = request.into_parts();
        let target = head.uri.path().to_owned();
        let sending = self.runtime.spawn(async move {
            let json = [("content-type", "application/json".to_owned())];
            http::send(&endpoint, head.method, &target, &json, body, DEADLINE).await
        });
        let response = sending.await??;
        if !response.status().is_success() {
            return Err(format!("the collector says {}", response.status()).into());
        }
        Ok(response)
    }
}
