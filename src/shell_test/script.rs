//! What a client says and in which order: statements whose texts tell the server's model what to do, and
//! the ways in which a client ends.

use crate::wire::compose;

use super::plan::{Ending, Step};
use super::random::Random;

/// A message.
pub(super) fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 5);
    compose::frame(&mut bytes, tag, |out| out.extend_from_slice(body));
    bytes
}

/// A Query.
pub(super) fn query(text: &str) -> Vec<u8> {
    frame(b'Q', format!("{text}\0").as_bytes())
}

/// Parse, Bind, Describe, Execute of one statement, under a name of its own or none.
fn extended(text: &str, name: &str) -> Vec<Vec<u8>> {
    vec![
        frame(b'P', format!("{name}\0{text}\0\0\0").as_bytes()),
        frame(b'B', format!("{name}\0{name}\0\0\0\0\0\0\0").as_bytes()),
        frame(b'D', format!("P{name}\0").as_bytes()),
        frame(b'E', format!("{name}\0\0\0\0\0").as_bytes()),
    ]
}

fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// Writes the script of one client.
pub(super) struct Writer<'r> {
    pub(super) random: &'r mut Random,
    pub(super) client: usize,
    pub(super) number: usize,
    pub(super) steps: Vec<Step>,
    /// What a client that is served in full may do.
    pub(super) tame: bool,
    /// Its connection takes more than a few bytes at a time.
    pub(super) moves_much: bool,
}

impl Writer<'_> {
    pub(super) fn id(&mut self) -> usize {
        self.number += 1;
        self.client * 1000 + self.number
    }

    fn statement(&mut self) -> String {
        let id = self.id();
        match self.random.below(14) {
            0 => format!("insert into t values ({id})"),
            1 => format!("insert into t values ({id}) /* pg_sleep_ms=3000 */"),
            2 => format!("select 1/0, {id}"),
            3 => format!("select {id} /* rows=1 size=20 */ from enc_{id}"),
            4 => format!("select {id} /* rows=2 size=300 */ from enc_t"),
            5 => format!("select {id} /* rows=1 size=20 */ from ext_{id}"),
            6 if self.moves_much => format!("select {id} /* rows=20 size=9000 */ from big"),
            7 => format!("select {id} /* rows=1 pg_sleep_ms=700 */ from slow"),
            _ => {
                let (rows, size) = (self.random.below(5), self.random.below(200));
                format!("select {id} /* rows={rows} size={size} */ from plain")
            }
        }
    }

    pub(super) fn send(&mut self, messages: Vec<Vec<u8>>, waits: bool) {
        self.steps.push(Step::Send { messages, waits });
    }

    fn waits(&mut self) -> bool {
        !self.random.one_in(3)
    }

    pub(super) fn one(&mut self) {
        let waits = self.waits();
        match self.random.below(12) {
            0..=4 => {
                let text = self.statement();
                self.send(vec![query(&text)], waits);
            }
            5..=7 => {
                let mut messages = Vec::new();
                for _ in 0..self.random.within(1..=3) {
                    let text = self.statement();
                    let name = if self.random.one_in(2) {
                        format!("s{}", self.id())
                    } else {
                        String::new()
                    };
                    messages.extend(extended(&text, &name));
                }
                messages.push(sync());
                self.send(messages, waits);
            }
            8 => {
                let (begin, commit) = (self.id(), self.id());
                self.send(vec![query(&format!("begin /* {begin} */"))], true);
                for _ in 0..self.random.within(1..=3) {
                    let text = self.statement();
                    self.send(vec![query(&text)], true);
                }
                let end = self.random.pick(&["commit", "rollback"]);
                self.send(vec![query(&format!("{end} /* {commit} */"))], true);
            }
            9 => self.copy(),
            10 => {
                let id = self.id();
                let (rows, size) = (self.random.below(30), self.random.below(5000));
                self.send(
                    vec![query(&format!(
                        "copy t{id} to stdout /* rows={rows} size={size} */"
                    ))],
                    waits,
                );
            }
            _ => {
                let id = self.id();
                let slow = self.random.pick(&["pg_sleep_ms=3000", "for_ever"]);
                self.send(
                    vec![query(&format!("select {id} /* {slow} */ from slow"))],
                    true,
                );
                self.steps.push(Step::Pause(300));
                self.steps.push(Step::Cancel);
                self.steps.push(Step::AwaitReady);
            }
        }
    }

    fn copy(&mut self) {
        let id = self.id();
        self.send(vec![query(&format!("copy t{id} from stdin"))], true);
        if self.random.one_in(2) {
            self.steps.push(Step::AwaitCopy);
        }
        let mut data: Vec<_> = (0..self.random.below(8))
            .map(|row| {
                let size = self.random.below(3000);
                frame(b'd', format!("{id}.{row} {}", "x".repeat(size)).as_bytes())
            })
            .collect();
        let end = if self.random.one_in(4) {
            frame(b'f', b"no\0")
        } else {
            frame(b'c', b"")
        };
        data.push(end);
        self.send(data, false);
    }

    pub(super) fn ending(&mut self) {
        let id = self.id();
        if self.tame {
            self.steps.push(Step::AwaitReady);
            if self.random.one_in(4) {
                self.steps.push(Step::End(Ending::HalfClose));
                return;
            }
            self.send(vec![frame(b'X', b"")], true);
            self.steps.push(Step::End(Ending::Close));
            return;
        }
        if self.random.one_in(2) {
            let slow = self
                .random
                .pick(&["pg_sleep_ms=20000", "for_ever", "for_ever"]);
            self.send(
                vec![query(&format!("select {id} /* {slow} */ from slow"))],
                true,
            );
        }
        match self.random.below(8) {
            0 => {
                // More than anyone keeps, behind a statement that runs.
                let count = self.random.within(1..=60);
                let many = (0..count)
                    .map(|n| query(&format!("select {id}{n} /* {} */", "y".repeat(5000))));
                let many = many.collect();
                self.send(many, false);
            }
            1 => {
                let pages = (0..3)
                    .map(|n| query(&format!("select {id}{n} /* rows=60 size=9000 */ from big")));
                let pages = pages.collect();
                self.send(pages, false);
                self.steps.push(Step::StopReading);
            }
            2 | 3 => {
                self.send(vec![frame(b'X', b"")], false);
                if self.moves_much && self.random.one_in(2) {
                    self.steps
                        .push(Step::Flood(self.random.within(1..=6) << 17));
                }
            }
            4 => {
                let encrypted = self.id();
                self.send(vec![query(&format!("select {id} from ext_{id}"))], false);
                self.send(
                    vec![query(&format!("select {encrypted} from plain"))],
                    false,
                );
            }
            5 => self.send(vec![vec![b'Q', 0, 0, 0, 2]], false),
            _ => {}
        }
        let endings = [
            Ending::Close,
            Ending::Close,
            Ending::HalfClose,
            Ending::Reset,
            Ending::Reset,
            Ending::Mute,
        ];
        let ending = self.random.pick(&endings);
        self.steps.push(Step::End(ending));
    }
}
