//! What the core tells its shell to do with a read buffer, in order: a run of uninteresting
//! messages is one [`Op::Forward`], however many they are.

use std::collections::VecDeque;

use bytes::Bytes;

/// One step over a lane's read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op<'q> {
    /// Send the next bytes of the read buffer.
    Forward(usize),
    /// Skip the next bytes of the read buffer.
    Drop(usize),
    /// Send these.
    Own(&'q [u8]),
}

/// A step as it is kept.
#[derive(Debug)]
enum Kept {
    Forward(usize),
    Drop(usize),
    Own(Bytes),
}

impl Kept {
    fn as_op(&self) -> Op<'_> {
        match self {
            Self::Forward(bytes) => Op::Forward(*bytes),
            Self::Drop(bytes) => Op::Drop(*bytes),
            Self::Own(bytes) => Op::Own(bytes),
        }
    }
}

/// The steps that are still to be done, oldest first. The shell shortens the front one as its
/// writes succeed.
#[derive(Debug, Default)]
pub struct Queue {
    /// Bytes of the first step, if that is an [`Op::Forward`] that stands here: nearly always it is the
    /// only one, and no list is touched.
    lead: usize,
    /// The steps behind it.
    ops: VecDeque<Kept>,
    /// Where the steps of the present call begin.
    mark: usize,
}

impl Queue {
    #[inline]
    fn len(&self) -> usize {
        usize::from(self.lead > 0) + self.ops.len()
    }

    /// Begins a call: what is queued from here on can be inserted into by [`Queue::insert_at`].
    #[inline]
    pub(super) fn begin(&mut self) {
        self.mark = self.len();
    }

    #[inline]
    pub(super) fn forward(&mut self, bytes: usize) {
        if self.ops.is_empty() && self.mark == 0 {
            self.lead += bytes;
        } else {
            self.forward_behind(bytes);
        }
    }

    fn forward_behind(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let merge = self.len() > self.mark;
        match self.ops.back_mut() {
            Some(Kept::Forward(run)) if merge => *run += bytes,
            _ => self.ops.push_back(Kept::Forward(bytes)),
        }
    }

    /// Lets these bytes go, or forwards them.
    pub(super) fn pass(&mut self, bytes: usize, dropped: bool) {
        if dropped {
            self.drop(bytes);
        } else {
            self.forward(bytes);
        }
    }

    pub(super) fn drop(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let merge = self.len() > self.mark;
        match self.ops.back_mut() {
            Some(Kept::Drop(run)) if merge => *run += bytes,
            _ => self.ops.push_back(Kept::Drop(bytes)),
        }
    }

    /// Sends bytes of Osprey's own after everything queued so far.
    pub fn own(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.ops.push_back(Kept::Own(bytes));
        }
    }

    /// Sends bytes of Osprey's own in front of what this call queued for the input byte `offset`.
    pub(super) fn insert_at(&mut self, offset: usize, bytes: Bytes) {
        if self.lead > 0 {
            let lead = std::mem::take(&mut self.lead);
            self.ops.push_front(Kept::Forward(lead));
        }
        let mut left = offset;
        for at in self.mark..self.ops.len() {
            match &mut self.ops[at] {
                Kept::Own(_) => {}
                Kept::Forward(run) | Kept::Drop(run) if *run <= left => left -= *run,
                Kept::Forward(run) => {
                    let behind = *run - left;
                    *run = left;
                    let at = if left == 0 { at } else { at + 1 };
                    if left == 0 {
                        self.ops[at] = Kept::Forward(behind);
                    } else {
                        self.ops.insert(at, Kept::Forward(behind));
                    }
                    self.ops.insert(at, Kept::Own(bytes));
                    return;
                }
                Kept::Drop(run) => {
                    let behind = *run - left;
                    *run = left;
                    self.ops.insert(at + 1, Kept::Drop(behind));
                    self.ops.insert(at + 1, Kept::Own(bytes));
                    return;
                }
            }
        }
        self.own(bytes);
    }

    /// True if there is nothing to do.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.lead == 0 && self.ops.is_empty()
    }

    /// The steps, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = Op<'_>> {
        let lead = (self.lead > 0).then_some(Op::Forward(self.lead));
        lead.into_iter().chain(self.ops.iter().map(Kept::as_op))
    }

    /// The only step, if it is a [`Op::Forward`]: the plain case, worth no list.
    #[inline]
    pub fn only_forward(&self) -> Option<usize> {
        if self.ops.is_empty() {
            (self.lead > 0).then_some(self.lead)
        } else {
            self.only_forward_behind()
        }
    }

    /// The same, where there is a list.
    #[inline(never)]
    fn only_forward_behind(&self) -> Option<usize> {
        match (self.lead, self.ops.front()) {
            (0, Some(Kept::Forward(bytes))) if self.ops.len() == 1 => Some(*bytes),
            _ => None,
        }
    }

    /// Takes `sent` sent bytes off the front, and every [`Op::Drop`] that then comes first.
    /// Returns by how much the read buffer is shorter.
    #[inline]
    pub fn advance(&mut self, sent: usize) -> usize {
        if self.lead == sent && self.ops.is_empty() {
            // As nearly always.
            (self.lead, self.mark) = (0, 0);
            return sent;
        }
        let step = self.lead.min(sent);
        self.lead -= step;
        if self.ops.is_empty() {
            self.mark = self.len();
            return step;
        }
        let behind = if self.lead > 0 {
            0
        } else {
            self.advance_behind(sent - step)
        };
        self.mark = self.len();
        step + behind
    }

    /// The same, behind the lead, which is gone.
    #[inline(never)]
    fn advance_behind(&mut self, mut sent: usize) -> usize {
        let mut consumed = 0;
        while let Some(front) = self.ops.front_mut() {
            match front {
                Kept::Drop(bytes) => consumed += *bytes,
                Kept::Forward(bytes) => {
                    let step = (*bytes).min(sent);
                    *bytes -= step;
                    sent -= step;
                    consumed += step;
                    if *bytes > 0 {
                        break;
                    }
                }
                Kept::Own(bytes) => {
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
        assert!(queue.iter().eq([Op::Forward(7), Op::Forward(5)]));
    }

    #[test]
    fn insertion_splits_a_run() {
        let mut queue = Queue::default();
        queue.forward(9);
        queue.begin();
        queue.forward(10);
        queue.insert_at(4, own("x"));
        assert!(queue.iter().eq([
            Op::Forward(9),
            Op::Forward(4),
            Op::Own(b"x"),
            Op::Forward(6)
        ]));
        queue.insert_at(0, own("y"));
        assert!(queue.iter().eq([
            Op::Forward(9),
            Op::Own(b"y"),
            Op::Forward(4),
            Op::Own(b"x"),
            Op::Forward(6)
        ]));
        queue.insert_at(10, own("z"));
        assert_eq!(queue.iter().last(), Some(Op::Own(b"z")));
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
