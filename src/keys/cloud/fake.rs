//! A cloud in this process, for tests: it checks every signature by its own reading of the rules, and
//! answers as it is told.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use super::{AlibabaCloud, Surroundings, timestamp};
use crate::config::{Cloud, CredentialSource, Endpoint};

pub(crate) const SECRET: &str = "the-secret";

/// A request as the cloud sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: String,
    headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(own, _)| own == name);
        found.map_or("", |(_, value)| value)
    }

    /// The action of a signed call, the path of any other.
    pub(crate) fn what(&self) -> &str {
        match self.header("x-acs-action") {
            "" => &self.path,
            action => action,
        }
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: String,
    pub(crate) delay: Duration,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Reply {
    /// With one more header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

pub(crate) fn ok(body: &Value) -> Reply {
    says(200, body)
}

pub(crate) fn says(status: u16, body: &Value) -> Reply {
    Reply {
        status,
        body: body.to_string(),
        delay: Duration::ZERO,
        headers: Vec::new(),
    }
}

pub(crate) fn complaint(status: u16, code: &str) -> Reply {
    says(
        status,
        &json!({"Code": code, "Message": "no", "RequestId": "r"}),
    )
}

pub(crate) struct FakeCloud {
    pub(crate) endpoint: Endpoint,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    any_date: Arc<AtomicBool>,
}

impl FakeCloud {
    pub(crate) async fn start(
        play: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Endpoint {
            tls: false,
            host: "127.0.0.1".into(),
            port: listener.local_addr().unwrap().port(),
        };
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let any_date: Arc<AtomicBool> = Arc::default();
        let (all, play, lenient) = (Arc::clone(&seen), Arc::new(play), Arc::clone(&any_date));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, play) = (Arc::clone(&all), Arc::clone(&play));
                let lenient = Arc::clone(&lenient);
                let service = service_fn(move |request| {
                    let (all, play) = (Arc::clone(&all), Arc::clone(&play));
                    let lenient = lenient.load(Ordering::Relaxed);
                    async move { Ok::<_, Infallible>(answer(request, &all, &*play, lenient).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self {
            endpoint,
            seen,
            any_date,
        }
    }

    /// From now on what a date should be is for `play` to say.
    pub(crate) fn takes_any_date(&self) {
        self.any_date.store(true, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, what: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.what() == what).count()
    }

    pub(crate) fn provider(
        &self,
        source: CredentialSource,
        variables: &[(&str, &str)],
    ) -> AlibabaCloud {
        let mut cloud = Cloud::in_region("cn-test");
        cloud.credentials = source;
        cloud.timeout = Duration::from_millis(500);
        for endpoint in [
            &mut cloud.maxcompute_endpoint,
            &mut cloud.kms_endpoint,
            &mut cloud.sts_endpoint,
            &mut cloud.ram_endpoint,
        ] {
            *endpoint = Some(self.endpoint.clone());
        }
        let variables: HashMap<String, String> = variables
            .iter()
            .map(|(name, value)| (format!("ALIBABA_CLOUD_{name}"), (*value).to_owned()))
            .collect();
        let surroundings = Surroundings {
            variable: Box::new(move |name| variables.get(name).cloned()),
            home: None,
            metadata: self.endpoint.clone(),
        };
        AlibabaCloud::new(cloud, surroundings)
    }

    pub(crate) fn by_environment(&self) -> AlibabaCloud {
        self.provider(
            CredentialSource::Auto,
            &[("ACCESS_KEY_ID", "id"), ("ACCESS_KEY_SECRET", SECRET)],
        )
    }
}

async fn answer(
    request: Request<Incoming>,
    all: &Mutex<Vec<Seen>>,
    play: &(dyn Fn(&Seen, usize) -> Reply + Send + Sync),
    any_date: bool,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        body: String::from_utf8(body.to_vec()).unwrap(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect(),
    };
    let before = {
        let mut all = all.lock().unwrap();
        all.push(seen.clone());
        all.iter().filter(|old| old.what() == seen.what()).count() - 1
    };
    let signed = !seen.header("x-acs-action").is_empty();
    let reply = match signed.then(|| verify(&seen, any_date)) {
        Some(Err(why)) => complaint(400, &format!("SignatureDoesNotMatch.{why}")),
        _ => play(&seen, before),
    };
    tokio::time::sleep(reply.delay).await;
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(reply.body))).unwrap()
}

/// HMAC of RFC 2104, spelt out.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let mut block = [0u8; 64];
    block[..key.len()].copy_from_slice(key);
    let pad = |with: u8| block.map(|byte| byte ^ with);
    let inner = Sha256::new_with_prefix(pad(0x36)).chain_update(text);
    let outer = Sha256::new_with_prefix(pad(0x5c)).chain_update(inner.finalize());
    hexadecimal(&outer.finalize())
}

fn hexadecimal(bytes: &[u8]) -> String {
    let texts: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    texts.concat()
}

/// The server's side of the signature.
fn verify(seen: &Seen, any_date: bool) -> Result<(), String> {
    let authorization = seen.header("authorization");
    let fields = authorization
        .strip_prefix("ACS3-HMAC-SHA256 ")
        .ok_or("algorithm")?;
    let field = |name: &str| {
        let prefix = format!("{name}=");
        let mut fields = fields.split(',');
        fields.find_map(|field| field.strip_prefix(&prefix).map(str::to_owned))
    };
    let signed = field("SignedHeaders").ok_or("headers")?;
    let names: Vec<&str> = signed.split(';').collect();
    let must: HashSet<&str> = seen
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| name.starts_with("x-acs-") || *name == "host")
        .collect();
    let sorted = names.is_sorted() && names.iter().copied().collect::<HashSet<_>>() == must;
    let date = timestamp::parse(seen.header("x-acs-date")).ok_or("date")?;
    let age = SystemTime::now().duration_since(date).unwrap_or_default();
    let digest = hexadecimal(&Sha256::digest(seen.body.as_bytes()));
    let timely = any_date || age <= Duration::from_mins(15);
    if !sorted || !timely || seen.header("x-acs-content-sha256") != digest {
        return Err("content".into());
    }
    let mut pairs: Vec<&str> = seen
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .collect();
    pairs.sort_unstable();
    let headers: Vec<_> = names
        .iter()
        .map(|name| format!("{name}:{}\n", seen.header(name).trim()))
        .collect();
    let headers = headers.concat();
    let canonical = [
        &seen.method,
        &seen.path,
        &pairs.join("&"),
        &headers,
        &signed,
        &digest,
    ]
    .map(String::as_str)
    .join("\n");
    let hash = hexadecimal(&Sha256::digest(canonical.as_bytes()));
    let signature = hmac(
        SECRET.as_bytes(),
        format!("ACS3-HMAC-SHA256\n{hash}").as_bytes(),
    );
    match field("Signature") {
        Some(given) if given == signature => Ok(()),
        _ => Err("signature".into()),
    }
}
