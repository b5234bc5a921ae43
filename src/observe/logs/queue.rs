//! Log lines on their way out: a bounded queue, and one thread that alone may wait for whoever reads
//! them; it writes together what has come meanwhile. Who logs never waits: a line that finds no room is
//! lost, and so is one that cannot be written; both are counted, and said once there is somebody to say it
//! to.
//!
//! Not the `tracing-appender` crate's: that one does not count what could not be written, bounds
//! lines but not bytes, and says on standard output, waiting for it, that it could not end.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Before a descriptor that does not block is tried again.
const RETRY: Duration = Duration::from_millis(10);
/// After lines were written, so that those that come meanwhile are written together: to wake the
/// thread and to write cost more than all that is in a line.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two sayings that lines were lost, while more are lost all the time.
const SAY_PAUSE: Duration = Duration::from_secs(1);

/// The way in; clones lead to the same queue.
#[derive(Clone)]
pub(super) struct Queue(Arc<Inner>);

struct Inner {
    /// Bytes that wait, at most.
    capacity: usize,
    state: Mutex<State>,
    /// A line has come.
    filled: Condvar,
    /// Nothing waits any more.
    emptied: Condvar,
    lost: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: Lines,
    /// Bytes that are being written.
    writing: usize,
    /// The thread that writes waits for a line.
    idle: bool,
    /// How many wait until everything is written.
    flushing: usize,
}

/// Lines, one behind the other.
#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

impl Lines {
    fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len());
    }
}

impl Queue {
    /// A queue of at most `capacity` bytes, which a thread of its own empties into `sink`.
    /// `say_lost` is told on that thread how many lines were lost since it was told last; it may put
    /// a line about it into the queue.
    pub(super) fn start(
        capacity: usize,
        sink: impl Write + Send + 'static,
        say_lost: impl Fn(u64) + Send + 'static,
    ) -> std::io::Result<Self> {
        let queue = Self(Arc::new(Inner {
            capacity,
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            lost: AtomicU64::new(0),
        }));
        let inner = Arc::clone(&queue.0);
        std::thread::Builder::new()
            .name("osprey-log".into())
            .spawn(move || inner.empty(sink, say_lost))?;
        Ok(queue)
    }

    /// Queues one line, with its line feed. Never waits.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.writing + state.waiting.text.len() + line.len() > self.0.capacity {
            drop(state);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.waiting.push(line);
        let is_idle = std::mem::take(&mut state.idle);
        drop(state);
        if is_idle {
            self.0.filled.notify_one();
        }
    }

    /// Lines lost since the start.
    pub(super) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything has been written, or `limit` is over; true if it has been.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.0.state();
        state.flushing += 1;
        let waits = |state: &mut State| state.writing + state.waiting.text.len() > 0;
        let waited = self.0.emptied.wait_timeout_while(state, limit, waits);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.flushing -= 1;
        !waited.timed_out()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what comes, for ever.
    fn empty(&self, mut sink: impl Write, say_lost: impl Fn(u64)) {
        let mut said = 0;
        let mut said_at: Option<Instant> = None;
        loop {
            let lines = self.next();
            let (written, outcome) = write(&mut sink, &lines.text);
            if outcome.is_err() {
                let whole = lines.ends.partition_point(|&end| end <= written);
                let lost = lines.ends.len() - whole;
                self.lost.fetch_add(lost as u64, Ordering::Relaxed);
            }
            let waits = self.written();
            let lost = self.lost.load(Ordering::Relaxed);
            let paused = said_at.is_none_or(|at| at.elapsed() >= SAY_PAUSE);
            if outcome.is_ok() && lost > said && (paused || !waits) {
                say_lost(lost - said);
                said = lost;
                said_at = Some(Instant::now());
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// All lines that wait, once there are some.
    fn next(&self) -> Lines {
        let mut state = self.state();
        while state.waiting.text.is_empty() {
            state.idle = true;
            let waited = self.filled.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        state.writing = state.waiting.text.len();
        std::mem::take(&mut state.waiting)
    }

    /// What was taken has been written, or is lost. True if more lines wait.
    fn written(&self) -> bool {
        let mut state = self.state();
        state.writing = 0;
        let waits = !state.waiting.text.is_empty();
        if !waits && state.flushing > 0 {
            self.emptied.notify_all();
        }
        waits
    }
}

/// Writes all of `text`; says how much it has written. Where another process has made the descriptor one
/// that does not block, waits as it would have done.
fn write(sink: &mut impl Write, text: &[u8]) -> (usize, std::io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match sink.write(&text[written..]) {
            Ok(0) => return (written, Err(ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// What a subscriber writes one event to.
pub(super) struct Line<'q>(&'q Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'q> MakeWriter<'q> for Queue {
    type Writer = Line<'q>;

    fn make_writer(&'q self) -> Self::Writer {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A queue into a pipe, and what is said to be lost.
    fn piped(capacity: usize) -> (Queue, std::io::PipeReader, mpsc::Receiver<u64>) {
        let (reader, writer) = std::io::pipe().unwrap();
        let (said, lost) = mpsc::channel();
        let say = move |count| said.send(count).unwrap();
        let queue = Queue::start(capacity, writer, say).unwrap();
        (queue, reader, lost)
    }

    #[test]
    fn lines_come_out_in_order_and_whole() {
        let (queue, mut reader, _lost) = piped(1 << 20);
        queue.push(b"one\n");
        queue.push(b"two\n");
        assert!(queue.flush(LONG));
        let mut text = [0; 8];
        reader.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"one\ntwo\n");
        assert_eq!(queue.lost(), 0);
    }

    /// More waits than a pipe holds (pipe(7): 64 KiB), and nobody reads.
    #[test]
    fn nobody_waits_for_a_reader_that_has_stopped_and_what_is_lost_is_said() {
        let (queue, mut reader, lost) = piped(1 << 18);
        let line = [b'x'; 1 << 10];
        let pushed = 1 << 10;
        for _ in 0..pushed {
            queue.push(&line);
        }
        let missing = queue.lost();
        assert!(missing > 0, "a mebibyte does not fit");
        assert!(!queue.flush(Duration::from_millis(1)));
        let reading = std::thread::spawn(move || {
            let mut text = vec![0; (pushed - usize::try_from(missing).unwrap()) << 10];
            reader.read_exact(&mut text).map(|()| reader)
        });
        assert_eq!(lost.recv_timeout(LONG).unwrap(), missing);
        reading.join().unwrap().unwrap();
        assert!(queue.flush(LONG));
    }

    #[test]
    fn what_cannot_be_written_is_lost_and_the_next_lines_are_tried_all_the_same() {
        let (queue, reader, _lost) = piped(1 << 16);
        drop(reader);
        queue.push(b"one\n");
        queue.push(b"two\n");
        assert!(queue.flush(LONG));
        assert_eq!(queue.lost(), 2);
    }
}
