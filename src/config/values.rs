//! From the text of one value to its type, with what to write instead when it is not one. The
//! texts here are shown after the setting's name; none repeats a value that may hold a password.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::cloud::{CredentialSource, Endpoint};
use super::listener::ProxyProtocol;
use super::problem::nearest;
use super::settings::{Language, LogStatements, OriginalText, StatusPage};
use super::upstream::{
    Address, ConfiguredEncryption, Mode, Override, ProjectRule, RouteKind, Scope, TablePattern,
    TlsMode,
};

/// The port of a Hologres endpoint that names none (Hologres, *Endpoints*).
pub(super) const HOLOGRES_PORT: u16 = 80;
/// Redis' own port.
const REDIS_PORT: u16 = 6379;

/// In milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
/// In bytes.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A duration: a whole number and a unit, `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    with_unit(text, &DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!(
                "{text:?} is not a duration; write a whole number and a unit (ms, s, m, h or d), \
             such as \"30s\" or \"24h\""
            )
        })
}

/// A size in bytes: a whole number and a unit, `B`, `KiB`, `MiB` or `GiB`.
pub(super) fn size(text: &str) -> Result<usize, String> {
    with_unit(text, &SIZE_UNITS)
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| {
            format!(
                "{text:?} is not a size; write a whole number and a unit (B, KiB, MiB or GiB), \
             such as \"256KiB\""
            )
        })
}

/// The units of durations.
pub(super) fn duration_units() -> Vec<&'static str> {
    DURATION_UNITS.iter().map(|(name, _)| *name).collect()
}

/// The units of sizes.
pub(super) fn size_units() -> Vec<&'static str> {
    SIZE_UNITS.iter().map(|(name, _)| *name).collect()
}

fn with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = (
        text[..digits].parse::<u64>().ok()?,
        text[digits..].trim_start(),
    );
    let &(_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(factor)
}

/// The shortest text that [`duration`] reads back as the same, to the millisecond.
pub(crate) fn show_duration(duration: Duration) -> String {
    show_with_unit(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATION_UNITS,
    )
}

/// The shortest text that [`size`] reads back as the same.
pub(super) fn show_size(size: usize) -> String {
    show_with_unit(size as u64, &SIZE_UNITS)
}

fn show_with_unit(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |&&(_, factor): &&(&str, u64)| value > 0 && value.is_multiple_of(factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{}{unit}", value / factor)
}

/// An address to listen on: `ADDR:PORT`, `[ADDR]:PORT` for IPv6, or `localhost:PORT`.
pub(super) fn address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.replace("localhost:", "127.0.0.1:").parse() {
        return Ok(address);
    }
    let right = match text.rsplit_once(':') {
        None if text.parse::<u16>().is_ok() => {
            format!(
                "write the address too: \"127.0.0.1:{text}\" for this machine alone, \
                     \"0.0.0.0:{text}\" for every interface"
            )
        }
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => {
            format!("for every interface write \"0.0.0.0:{port}\" (or \"[::]:{port}\" for IPv6)")
        }
        Some((host, port)) if port.parse::<u16>().is_ok() && host.parse::<Ipv6Addr>().is_ok() => {
            format!("an IPv6 address stands in brackets: \"[{host}]:{port}\"")
        }
        _ => "write an IP address and a port, such as \"127.0.0.1:6432\" or \"[::1]:6432\"".into(),
    };
    Err(format!("{text:?} is not an address to listen on; {right}"))
}

/// [`address`], or `off`.
pub(super) fn address_or_off(text: &str) -> Result<Option<SocketAddr>, String> {
    if text.trim() == "off" {
        return Ok(None);
    }
    address(text)
        .map(Some)
        .map_err(|text| format!("{text}, or \"off\""))
}

/// The upstream: `HOST:PORT`, `HOST` (then port 80), `[ADDR]:PORT` or a bare IPv6 address.
pub(super) fn upstream(text: &str) -> Result<Address, String> {
    let text = text.trim();
    // The value is not repeated when it may be a URL with a password in it.
    if text.contains("://") || text.contains('@') || text.contains('/') {
        return Err(
            "this is a URL; write HOST:PORT alone, without scheme, user, password or \
                    database (those are the clients' own)"
                .into(),
        );
    }
    let wrong = |right: &str| format!("{text:?} is not an upstream; {right}");
    let example = "write HOST:PORT, such as \"hologres.example.com:80\" or \"[2001:db8::1]:80\"";
    let (host, port) = if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| wrong("the bracket is not closed"))?;
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(wrong("only an IPv6 address stands in brackets"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => return Err(wrong(example)),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(wrong(example));
    }
    let port = match port.map(str::parse::<u16>) {
        None => HOLOGRES_PORT,
        Some(Ok(port)) if port > 0 => port,
        Some(_) => return Err(wrong("the port is a number from 1 to 65535")),
    };
    Ok(Address {
        host: host.to_owned(),
        port,
    })
}

/// A MaxCompute project, or a pattern of projects, encrypted with a KMS key.
pub(super) fn project(text: &str) -> Result<ProjectRule, String> {
    Ok(ProjectRule {
        name: project_name(text)?,
        encryption: ConfiguredEncryption::default(),
        key_id: None,
    })
}

/// The name (or pattern) of a MaxCompute project, in lower case.
pub(super) fn project_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    if let Some((project, _)) = name.split_once('#') {
        return Err(format!(
            "{text:?} names a schema too, but encryption is a property of the whole project; \
             write {project:?}"
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '*' | '?');
    if name.is_empty() || !name.chars().all(allowed) {
        return Err(format!(
            "{text:?} is not a MaxCompute project; a project's name has letters, digits and _ \
             only (and * or ? as wildcards)"
        ));
    }
    Ok(name)
}

/// A pattern for tables: `[[database.]schema.]table`. As in SQL, a part without double quotes is
/// folded to lower case and a part within them is taken as it is.
pub(super) fn table(text: &str) -> Result<TablePattern, String> {
    let wrong = |why: &str| {
        format!(
            "{text:?} is not a table pattern: {why}; write [[database.]schema.]table, such as \
             \"public.orders\", \"sales.*\" or \"dw.ods.\\\"Orders\\\"\""
        )
    };
    let mut parts = vec![String::new()];
    let mut quoted = false;
    let mut chars = text.trim().chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut().ok_or_else(|| wrong("it is empty"))?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                part.push('"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            c if quoted => part.push(c),
            c if c.is_whitespace() => return Err(wrong("it has a space outside double quotes")),
            c => part.push(c.to_ascii_lowercase()),
        }
    }
    if quoted {
        return Err(wrong("a double quote is not closed"));
    }
    if parts.iter().any(String::is_empty) {
        return Err(wrong("a part of it is empty"));
    }
    if parts.len() > 3 {
        return Err(wrong("it has more than three parts"));
    }
    let mut last_first = parts.into_iter().rev();
    let mut next = || last_first.next().unwrap_or_else(|| "*".into());
    let (table, schema, database) = (next(), next(), next());
    Ok(TablePattern {
        database,
        schema,
        table,
    })
}

/// A region of Alibaba Cloud's, such as `cn-shanghai`.
pub(super) fn region(text: &str) -> Result<String, String> {
    let text = text.trim();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(plain) {
        return Err(format!(
            "{text:?} is not a region; write its id, such as \"cn-shanghai\""
        ));
    }
    Ok(text.to_owned())
}

/// An endpoint of Alibaba Cloud's API: `HOST`, `HOST:PORT`, or the same behind `https://`;
/// `http://` only to this machine, since requests carry tokens.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let wrong = || {
        "is not an endpoint; write its host, such as \"kms-vpc.cn-shanghai.aliyuncs.com\", with \
         :PORT if it is not 443"
            .to_owned()
    };
    let text = text.trim();
    let with_scheme = match text.split_once("://") {
        None => &format!("https://{text}"),
        Some(_) => text,
    };
    let endpoint = web(with_scheme, |tls| if tls { 443 } else { 80 }).ok_or_else(wrong)?;
    let loopback = endpoint.host == "localhost"
        || endpoint
            .host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if !endpoint.tls && !loopback {
        return Err("must be https: requests carry tokens".into());
    }
    Ok(endpoint)
}

/// `http://HOST` or `https://HOST`, with `:PORT` if it is not the one of that scheme.
fn web(text: &str, port_of: impl Fn(bool) -> u16) -> Option<Endpoint> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = match scheme {
        "https" => true,
        "http" => false,
        _ => return None,
    };
    let (host, port) = match rest.split_once(':') {
        None => (rest, port_of(tls)),
        Some((host, port)) => (host, port.parse().ok()?),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let host = host.to_owned();
    let is_one = !host.is_empty() && port != 0 && host.chars().all(plain);
    is_one.then_some(Endpoint { tls, host, port })
}

/// A share of a whole: `"5%"`.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text
        .trim()
        .strip_suffix('%')
        .and_then(|number| number.trim().parse().ok());
    number
        .filter(|percent| *percent <= 100)
        .ok_or_else(|| "is no share; write \"5%\", from 0% to 100%".into())
}

/// A collector of OpenTelemetry's: OTLP over HTTP, whose port is 4318 (OpenTelemetry, *OTLP
/// Specification*).
pub(super) fn collector(text: &str) -> Result<Option<Endpoint>, String> {
    if !cfg!(feature = "traces") {
        return Err("cannot be: this Osprey was built without the cargo feature \"traces\"".into());
    }
    let text = text.trim();
    let collector = web(text.strip_suffix('/').unwrap_or(text), |_| 4318);
    collector.map(Some).ok_or_else(|| {
        "is no collector; write http://HOST:PORT or https://HOST:PORT, of OTLP over HTTP".into()
    })
}

/// Where a Redis is: `HOST:PORT`, or `HOST` and Redis' own port.
pub(super) fn redis_address(text: &str) -> Result<Address, String> {
    // The value is not repeated when it may be a URL with a password in it.
    if text.contains("://") || text.contains('@') || text.contains('/') {
        return Err(
            "this is a URL; write HOST:PORT alone: user, password_file and tls are keys of their own"
                .into(),
        );
    }
    let address = upstream(text).map_err(|_| {
        format!(
            "{text:?} is not the address of a Redis; write HOST:PORT, such as \
             \"redis.example.com:{REDIS_PORT}\""
        )
    })?;
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let port = if bare == address.host {
        REDIS_PORT
    } else {
        address.port
    };
    Ok(Address { port, ..address })
}

/// A name that must not be empty.
pub(super) fn name(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        Err("is empty".into())
    } else {
        Ok(text.to_owned())
    }
}

/// A file's name, which is relative to `directory`. Behind `$CREDENTIALS_DIRECTORY` it is one of the
/// secrets that the service manager has put there (systemd.exec(5), `LoadCredential=`).
pub(super) fn path(
    text: &str,
    directory: &Path,
    credentials: Option<&Path>,
) -> Result<PathBuf, String> {
    let text = name(text)?;
    let credential = ["$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/"]
        .into_iter()
        .find_map(|prefix| text.strip_prefix(prefix));
    match (credential, credentials) {
        (None, _) => Ok(directory.join(text)),
        (Some(credential), Some(credentials)) => Ok(credentials.join(credential)),
        (Some(credential), None) => Err(format!(
            "names a credential, but $CREDENTIALS_DIRECTORY is not set; in a systemd unit, \
             LoadCredential={credential}:/PATH sets it"
        )),
    }
}

/// The name of an upstream.
pub(super) fn upstream_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if text.is_empty() || !text.chars().all(plain) {
        return Err(format!(
            "{text:?} is not a name for an upstream; it has letters, digits, _, - and . only, such \
             as \"prod\""
        ));
    }
    Ok(text.to_owned())
}

/// A pattern of databases' names, as a listener's rule has it.
pub(super) fn database(text: &str) -> Result<String, String> {
    let database = name(text)?;
    match database.split_once('@') {
        Some((plain, _)) if !plain.is_empty() => Err(format!(
            "{text:?} names a warehouse too, but a rule is compared with the database alone; write \
             {plain:?}"
        )),
        _ => Ok(database),
    }
}

/// A network: `ADDR/BITS`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let text = text.trim();
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    network.map(canonical).map_err(|_| {
        format!(
            "{text:?} is not a network; write an IP address and how many of its bits count, such \
             as \"10.0.0.0/8\" or \"2001:db8::/32\""
        )
    })
}

/// A network without the bits that do not count; of IPv4 addresses that are written as IPv6 ones
/// (`::ffff:10.0.0.0/104`, as logs of other programs have them) as one of IPv4, by which clients are compared.
fn canonical(network: IpNet) -> IpNet {
    /// Bits in front of such an address.
    const MAPPED: u8 = 96;
    let mapped = match network {
        IpNet::V6(network) => network
            .addr()
            .to_ipv4_mapped()
            .zip(network.prefix_len().checked_sub(MAPPED)),
        IpNet::V4(_) => None,
    };
    mapped
        .and_then(|(address, bits)| IpNet::new(address.into(), bits).ok())
        .unwrap_or(network)
        .trunc()
}

/// [`duration`], or `off`.
pub(super) fn duration_or_off(text: &str) -> Result<Option<Duration>, String> {
    if text.trim() == "off" {
        return Ok(None);
    }
    duration(text)
        .map(Some)
        .map_err(|text| format!("{text}, or \"off\""))
}

/// The words a setting may be, each with its value.
pub(super) type Choices<T> = &'static [(&'static str, T)];

/// `[upstream.tls] mode`
pub(super) const TLS_MODES: Choices<TlsMode> = &[
    ("disable", TlsMode::Disable),
    ("prefer", TlsMode::Prefer),
    ("require", TlsMode::Require),
    ("verify-ca", TlsMode::VerifyCa),
    ("verify-full", TlsMode::VerifyFull),
];
/// `[[listener]] proxy_protocol`
pub(super) const PROXY_PROTOCOLS: Choices<ProxyProtocol> = &[
    ("off", ProxyProtocol::Off),
    ("accept", ProxyProtocol::Accept),
    ("require", ProxyProtocol::Require),
];
/// `[route] mode`
/// The rules that an operator may switch on: those of Osprey's table that are offered.
pub(super) const OFFERED_RULES: Choices<&str> = &[
    ("OSP-1102", "OSP-1102"),
    ("OSP-1121", "OSP-1121"),
    ("OSP-1122", "OSP-1122"),
];

pub(super) const MODES: Choices<Mode> = &[("steer", Mode::Steer), ("observe", Mode::Observe)];
/// `[route] kind`
pub(super) const ROUTES: Choices<RouteKind> = &[
    ("sqe", RouteKind::Sqe),
    ("common-table", RouteKind::CommonTable),
    ("auto", RouteKind::Auto),
];
/// `[route] scope`
pub(super) const SCOPES: Choices<Scope> =
    &[("session", Scope::Session), ("statement", Scope::Statement)];
/// `[route] override`
pub(super) const OVERRIDES: Choices<Override> = &[
    ("respect", Override::Respect),
    ("enforce", Override::Enforce),
];
/// `[[protect.project]] encryption`
pub(super) const ENCRYPTIONS: Choices<ConfiguredEncryption> = &[
    ("kms", ConfiguredEncryption::Kms),
    ("default-key", ConfiguredEncryption::DefaultKey),
    ("none", ConfiguredEncryption::None),
];
/// `[keys.cloud] credentials`
pub(super) const CREDENTIALS: Choices<CredentialSource> = &[
    ("auto", CredentialSource::Auto),
    ("environment", CredentialSource::Environment),
    ("oidc", CredentialSource::Oidc),
    ("file", CredentialSource::File),
    ("ecs-role", CredentialSource::EcsRole),
];
/// `[observe] log_format`; true is JSON.
pub(super) const LOG_FORMATS: Choices<bool> = &[("text", false), ("json", true)];

/// `[observe] status_page`
pub(super) const STATUS_PAGES: Choices<StatusPage> = &[
    ("auto", StatusPage::Auto),
    ("on", StatusPage::On),
    ("off", StatusPage::Off),
];

/// The name of a host as a browser asks for it, without a port.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let name = text.trim().to_ascii_lowercase();
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if name.is_empty() || !name.bytes().all(is_of_name) {
        return Err(format!(
            "{text:?} is no name of a host, such as \"osprey.example.com\""
        ));
    }
    Ok(name)
}

/// `[observe] original_text`
pub(super) const ORIGINAL_TEXTS: Choices<OriginalText> =
    &[("short", OriginalText::Short), ("full", OriginalText::Full)];

/// `[observe] log_statements`
pub(super) const LOG_STATEMENTS: Choices<LogStatements> = &[
    ("none", LogStatements::None),
    ("protected", LogStatements::Protected),
    ("all", LogStatements::All),
];

/// `[observe] language`
pub(super) const LANGUAGES: Choices<Language> =
    &[("en", Language::English), ("zh", Language::Chinese)];

/// The longest address of the pages: it stands in the detail of every rewritten error.
const MAX_DOCS: usize = 60;

/// Reads the address under which the pages can be read.
pub(super) fn docs(text: &str) -> Result<Option<Arc<str>>, String> {
    let address = text.trim_end_matches('/');
    let behind = ["https://", "http://"]
        .into_iter()
        .find_map(|scheme| address.strip_prefix(scheme));
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"'<>\\`#?@".contains(&byte);
    if behind.is_none_or(str::is_empty) || !address.bytes().all(plain) {
        // The value is not repeated: it may be a URL with a password in it.
        return Err("expects an address such as \"https://docs.example.com/osprey\"".into());
    }
    if address.len() > MAX_DOCS {
        return Err(format!("is longer than {MAX_DOCS} characters"));
    }
    Ok(Some(address.into()))
}

/// `[observe] language`, with what else may be written for one suggested.
pub(super) fn language(text: &str) -> Result<Language, String> {
    let folded = text.trim().to_lowercase().replace('_', "-");
    let (language, _) = folded.split_once('-').unwrap_or((&folded, ""));
    let meant = match language {
        "cn" | "zh" | "zho" | "chinese" | "mandarin" | "中文" | "简体中文" | "汉语" => "zh",
        "us" | "uk" | "gb" | "en" | "eng" | "english" => "en",
        _ => return one_of(LANGUAGES)(text),
    };
    one_of(LANGUAGES)(text).map_err(|_| {
        let all = LANGUAGES.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        format!(
            "{text:?} is none of {}; did you mean \"{meant}\"?",
            all.join(", ")
        )
    })
}

/// A parser for one of `choices`.
pub(super) fn one_of<T: Copy>(choices: Choices<T>) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let word = text.trim();
        if let Some(&(_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Ok(value);
        }
        let all = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        let slip = nearest(word, all.iter().copied())
            .map(|name| format!("; did you mean \"{name}\"?"))
            .unwrap_or_default();
        Err(format!("{text:?} is none of {}{slip}", all.join(", ")))
    }
}

impl std::str::FromStr for TlsMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        one_of(TLS_MODES)(text)
    }
}

impl std::fmt::Display for TlsMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(word(TLS_MODES, self))
    }
}

/// The words of `choices`.
pub(super) fn words<T>(choices: Choices<T>) -> Vec<&'static str> {
    choices.iter().map(|(name, _)| *name).collect()
}

/// The word for `value` among `choices`.
pub(super) fn word<T: PartialEq>(choices: Choices<T>, value: &T) -> &'static str {
    choices
        .iter()
        .find(|(_, choice)| choice == value)
        .map_or("", |(name, _)| name)
}

#[cfg(test)]
mod tests;
