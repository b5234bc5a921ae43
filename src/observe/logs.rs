//! Log lines on standard error, for people or as one JSON object a line. Nothing waits for whoever
//! reads them, and nothing fails because nobody does: see `queue`.

mod queue;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{LevelFilter, ParseError};
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::reload;

use crate::config::{self, Observe};
use queue::Queue;

/// Bytes of log lines that wait to be written, at most.
const CAPACITY: usize = 4 << 20;
/// How long the end of the process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of this process, once there is one.
static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    queue: Queue,
    json: bool,
    filter: Mutex<String>,
    /// Puts another filter in the place of the present one.
    refilter: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is none.
    #[error("the log filter {filter:?} is not one")]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// There is no thread to be had for it.
    #[error("cannot start the thread that writes the log")]
    Thread(#[source] std::io::Error),
    /// Someone else in this process logs already.
    #[error("logging is set up already")]
    Twice,
}

/// Sends log lines to standard error from now on, in colours if a person reads them and `NO_COLOR`
/// is not set; panics are logged as well, whatever the filter.
///
/// # Errors
/// A wrong filter (which checked settings do not have), no thread, and a second call.
pub fn init(settings: &Observe) -> Result<(), Error> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|source| Error::Filter {
        filter: settings.log.clone(),
        source,
    })?;
    let filter = without_the_libraries(filter, &settings.log);
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // A descriptor of its own: that of `std::io::Stderr` has a lock, and who holds it may wait.
    let sink = std::io::stderr().as_fd().try_clone_to_owned();
    let sink: Box<dyn std::io::Write + Send> = match sink {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        // It is closed: every line is lost, and counted.
        Err(_) => Box::new(std::io::stderr()),
    };
    let say_lost = |lost| {
        tracing::warn!(
            lost,
            "log lines were lost: standard error did not take them, or not fast enough"
        );
    };
    let queue = Queue::start(CAPACITY, sink, say_lost).map_err(Error::Thread)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(queue.clone());
    let json = settings.json_logs;
    // The two formats are two types.
    let (outcome, refilter): (_, Box<dyn Fn(_) -> _ + Send + Sync>) = if json {
        let lines = lines.json().flatten_event(true).with_current_span(false);
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        let refilter = move |filter: EnvFilter| handle.reload(filter);
        (lines.try_init(), Box::new(refilter))
    } else {
        let fields = debug_fn(write_field).delimited(" ");
        let lines = lines.fmt_fields(fields).with_ansi(colours);
        let lines = lines.with_filter_reloading();
        let handle = lines.reload_handle();
        let refilter = move |filter: EnvFilter| handle.reload(filter);
        (lines.try_init(), Box::new(refilter))
    };
    outcome.map_err(|_| Error::Twice)?;
    let log = Log {
        queue,
        json,
        filter: Mutex::new(settings.log.clone()),
        refilter,
    };
    LOG.set(log).map_err(|_| Error::Twice)?;
    std::panic::set_hook(Box::new(panicked));
    Ok(())
}

/// Writes one field of an event. Names and reasons come from whoever connects: a line end or an escape
/// character in one of them begins no line, and does nothing to a terminal.
fn write_field(
    writer: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    if field.name() != "message" {
        write!(writer, "{}=", field.name())?;
    }
    write!(OneLine(writer), "{value:?}")
}

/// Writes control characters as Rust spells them.
struct OneLine<W>(W);

impl<W: std::fmt::Write> std::fmt::Write for OneLine<W> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            match piece.char_indices().next_back() {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(&piece[..at])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

/// Leaves out what the TLS library says of every handshake, unless it is asked for by name.
fn without_the_libraries(filter: EnvFilter, text: &str) -> EnvFilter {
    let talkative = filter.max_level_hint() > Some(LevelFilter::INFO);
    match "rustls=warn".parse() {
        Ok(quiet) if talkative && !text.contains("rustls") => filter.add_directive(quiet),
        _ => filter,
    }
}

/// Says something whatever the log filter: for what scripts wait for, and for the last words of a
/// process. `fields` go into the JSON object beside the message; the text has all that matters.
pub fn say(level: tracing::Level, text: &str, fields: &[(&str, &str)]) {
    match LOG.get() {
        Some(log) if log.json => log.queue.push(&json(level, text, fields)),
        Some(log) => {
            let mut line = String::from("osprey: ");
            // Fails only where the text cannot grow.
            let _ = OneLine(&mut line).write_str(text);
            line.push('\n');
            log.queue.push(line.as_bytes());
        }
        // Nobody there to be told is no reason to fail.
        None => drop(writeln!(std::io::stderr(), "osprey: {text}")),
    }
}

/// The filter in force; `None`: there is no log.
pub fn filter() -> Option<String> {
    let filter = LOG.get()?.filter.lock();
    Some(filter.unwrap_or_else(PoisonError::into_inner).clone())
}

/// Logs by another filter from now on.
///
/// # Errors
/// It is none, in words; or there is no log.
pub fn set_filter(text: &str) -> Result<(), String> {
    let text = config::log_filter(text)?;
    let log = LOG.get().ok_or("this process has no log")?;
    let mut present = log.filter.lock().unwrap_or_else(PoisonError::into_inner);
    let filter = EnvFilter::try_new(&text).map_err(|error| error.to_string())?;
    (log.refilter)(filter).map_err(|error| error.to_string())?;
    *present = text;
    Ok(())
}

/// Log lines that were lost since the start: there was no room for them, or they could not be
/// written.
pub fn lost() -> u64 {
    LOG.get().map_or(0, |log| log.queue.lost())
}

/// Gives the last lines a moment to be written. For the end of the process.
pub fn flush() {
    if let Some(log) = LOG.get() {
        log.queue.flush(LAST_LINES);
    }
}

/// One line with the fields that every event has, named as the subscriber names them.
fn json(level: tracing::Level, text: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut now = String::new();
    // Fails only where the text cannot grow.
    let _ = SystemTime.format_time(&mut Writer::new(&mut now));
    let own = [
        ("timestamp", now.as_str()),
        ("level", level.as_str()),
        ("message", text),
    ];
    let all = own.iter().chain(fields).chain(&[("target", "osprey")]);
    let object = all.map(|&(name, value)| (name.to_owned(), value.into()));
    let object: serde_json::Map<_, _> = object.collect();
    format!("{}\n", serde_json::Value::Object(object)).into_bytes()
}

/// In place of the hook of the standard library, which writes to standard error and waits for it.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_default();
    let why = panic.payload_as_str().unwrap_or("no message");
    let text = format!("thread {name} panicked at {place}: {why}");
    let fields = [("thread", name), ("place", &place)];
    say(tracing::Level::ERROR, &text, &fields);
    if name == "main" {
        flush();
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::EnvFilter;

    use super::{OneLine, json, without_the_libraries};

    #[test]
    fn what_a_client_sends_begins_no_line() {
        use std::fmt::Write as _;
        let mut line = String::new();
        let user = "evil\n2026 ERROR osprey: \u{1b}[31mred\u{9b}\r\t表";
        write!(OneLine(&mut line), "{user}, {user:?}").unwrap();
        assert_eq!(
            line,
            r#"evil\n2026 ERROR osprey: \u{1b}[31mred\u{9b}\r\t表, "evil\n2026 ERROR osprey: \u{1b}[31mred\u{9b}\r\t表""#
        );
    }

    #[test]
    fn the_tls_library_is_quiet_unless_it_is_asked_for() {
        for (text, quiet) in [
            ("debug", true),
            ("info,osprey::session=trace", true),
            ("info", false),
            ("debug,rustls=debug", false),
        ] {
            let filter = without_the_libraries(EnvFilter::new(text), text);
            assert_eq!(filter.to_string().contains("rustls=warn"), quiet, "{text}");
        }
    }

    #[test]
    fn what_is_said_whatever_the_filter_is_a_json_object_too() {
        let fields = [("address", "127.0.0.1:6432")];
        let line = json(tracing::Level::INFO, "say \"so\"\n", &fields);
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "one line: {text}");
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(object["message"], "say \"so\"\n");
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["address"], "127.0.0.1:6432");
        assert!(object["timestamp"].as_str().unwrap().ends_with('Z'));
    }
}
