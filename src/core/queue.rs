//! What the core tells its shell to do with a read buffer, in order: a run of uninteresting
//! messages is one [`Op::Forward`], however many they are.

use std::collections::VecDeque;

use bytes::Bytes;

/// One step over a lane's read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Send the next bytes of the read buffer.
    Forward(usize),
    /// Skip the next bytes of the read buffer.
    Drop(usize),
    /// Send these.
    Own(Bytes),
}

/// The steps that are still to be done, oldest first. The shell shortens the front one as its
/// writes succeed.
#[derive(Debug, Default)]
pub struct Queue {
    ops: VecDeque<Op>,
    /// Where the steps of the present call begin.
    mark: usize,
}

impl Queue {
    /// Begins a call: what is queued from here on can be inserted into by [`Queue::insert_at`].
    pub(super) fn begin(&mut self) {
        self.mark = self.ops.len();
    }

    #[inline]
    pub(super) fn forward(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let merge = self.ops.len() > self.mark;
        match self.ops.back_mut() {
            Some(Op::Forward(run)) if merge => *run += bytes,
            _ => self.ops.push_back(Op::Forward(bytes)),
        }
    }

    pub(super) fn drop(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let merge = self.ops.len() > self.mark;
        match self.ops.back_mut() {
            Some(Op::Drop(run)) if merge => *run += bytes,
            _ => self.ops.push_back(Op::Drop(bytes)),
        }
    }

    /// Sends bytes of Osprey's own after everything queued so far.
    pub fn own(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.ops.push_back(Op::Own(bytes));
        }
    }

    /// Sends bytes of Osprey's own in front of what this call queued for the input byte `offset`.
    pub(super) fn insert_at(&mut self, offset: usize, bytes: Bytes) {
        let mut left = offset;
        for at in self.mark..self.ops.len() {
            match &mut self.ops[at] {
                Op::Own(_) => {}
                Op::Forward(run) | Op::Drop(run) if *run <= left => left -= *run,
                Op::Forward(run) => {
                    let behind = *run - left;
                    *run = left;
                    let at = if left == 0 { at } else { at + 1 };
                    if left == 0 {
                        self.ops[at] = Op::Forward(behind);
                    } else {
                        self.ops.insert(at, Op::Forward(behind));
                    }
                    self.ops.insert(at, Op::Own(bytes));
                    return;
                }
                Op::Drop(run) => {
                    let behind = *run - left;
                    *run = left;
                    self.ops.insert(at + 1, Op::Drop(behind));
                    self.ops.insert(at + 1, Op::Own(bytes));
                    return;
                }
            }
        }
        self.own(bytes);
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The steps, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter()
    }

    /// The only step, if it is a [`Op::Forward`]: the plain case, worth no list.
    pub fn only_forward(&self) -> Option<usize> {
        match self.ops.front() {
            Some(Op::Forward(bytes)) if self.ops.len() == 1 => Some(*bytes),
            _ => None,
        }
    }

    /// Takes `sent` sent bytes off the front, and every [`Op::Drop`] that then comes first.
    /// Returns by how much the read buffer is shorter.
    pub fn advance(&mut self, mut sent: usize) -> usize {
        let mut consumed = 0;
        while let Some(front) = self.ops.front_mut() {
            match front {
                Op::Drop(bytes) => consumed += *bytes,
                Op::Forward(bytes) => {
                    let step = (*bytes).min(sent);
                    *bytes -= step;
                    sent -= step;
                    consumed += step;
                    if *bytes > 0 {
                        break;
                    }
                }
                Op::Own(bytes) => {
                    let step = bytes.len().min(sent);
                    bytes::Buf::advance(bytes, step);
                    sent -= step;
                    if !bytes.is_empty() {
                        break;
                    }
                }
            }
            self.ops.pop_front();
        }
        self.mark = self.ops.len();
        consumed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn runs_merge_within_a_call_and_not_across_calls() {
        let mut queue = Queue::default();
        queue.begin();
        queue.forward(3);
        queue.forward(4);
        queue.begin();
        queue.forward(5);
        assert!(queue.iter().eq(&[Op::Forward(7), Op::Forward(5)]));
    }

    #[test]
    fn insertion_splits_a_run() {
        let mut queue = Queue::default();
        queue.forward(9);
        queue.begin();
        queue.forward(10);
        queue.insert_at(4, own("x"));
        assert!(queue.iter().eq(&[
            Op::Forward(9),
            Op::Forward(4),
            Op::Own(own("x")),
            Op::Forward(6)
        ]));
        queue.insert_at(0, own("y"));
        assert!(queue.iter().eq(&[
            Op::Forward(9),
            Op::Own(own("y")),
            Op::Forward(4),
            Op::Own(own("x")),
            Op::Forward(6)
        ]));
        queue.insert_at(10, own("z"));
        assert_eq!(queue.iter().last(), Some(&Op::Own(own("z"))));
    }

    #[test]
    fn advance_counts_what_leaves_the_read_buffer() {
        let mut queue = Queue::default();
        queue.begin();
        queue.own(own("abc"));
        queue.forward(4);
        queue.drop(5);
        queue.forward(1);
        assert_eq!(queue.advance(2), 0);
        assert_eq!(queue.advance(3), 2);
        assert_eq!(queue.advance(2), 2 + 5);
        assert_eq!(queue.only_forward(), Some(1));
        assert_eq!(queue.advance(1), 1);
        assert!(queue.is_empty());
    }
}
