//! COPY FROM STDIN: which of the client's messages are data.
//!
//! | | CopyData | CopyDone, CopyFail | Sync |
//! |---|---|---|---|
//! | not asked for, COPY in flight | noted in the ledger | noted in the ledger | noted in the ledger |
//! | asked for | the server takes it | ends the data | the server eats it |
//! | ended | the server drops it, or it is for the next COPY: noted in the ledger | the same | ends the cycle |
//!
//! The server has asked for data between its CopyInResponse and the CommandComplete, ErrorResponse
//! or ReadyForQuery of that COPY.

use super::ledger::{Entered, Expect, Ledger};

/// Where the data of the COPY FROM STDIN stand that is being answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Data {
    /// The server has not asked for any.
    #[default]
    NotAsked,
    /// It takes them; a Sync was sent among them or not.
    Asked { synced: bool },
    /// The client has sent CopyDone or CopyFail.
    Ended { synced: bool },
}

/// COPY FROM STDIN.
#[derive(Debug, Default)]
pub(super) struct Copy {
    data: Data,
    /// The client has sent CopyDone or CopyFail for the COPY that it sent last, whether or not the
    /// server has asked for data yet.
    end_sent: bool,
}

impl Copy {
    /// A statement that may enter COPY FROM STDIN was sent.
    pub(super) fn sent(&mut self) {
        self.end_sent = false;
    }

    /// CopyDone or CopyFail was sent. True if it ends, or comes behind the end of, the COPY whose
    /// data the server has asked for; false if it is for one that was sent behind that.
    pub(super) fn end(&mut self) -> bool {
        let ended = std::mem::replace(&mut self.end_sent, true);
        match self.data {
            Data::NotAsked => false,
            Data::Asked { synced } => {
                self.data = Data::Ended { synced };
                true
            }
            Data::Ended { .. } => ended,
        }
    }

    /// A Sync was sent. True if the server eats it, unless it has just refused the data.
    pub(super) fn eats_sync(&mut self) -> bool {
        let eats = self.takes_data();
        if eats {
            self.data = Data::Asked { synced: true };
        }
        eats
    }

    /// CopyInResponse came, and this was sent within the COPY by then.
    pub(super) fn asked(&mut self, entered: &Entered) {
        let synced = entered.sync_in_data;
        self.data = if entered.ended {
            Data::Ended { synced }
        } else {
            Data::Asked { synced }
        };
    }

    /// The COPY that is being answered is over. True if a Sync was sent among its data: whether
    /// that is answered depends on the server's haste.
    pub(super) fn over(&mut self) -> bool {
        match std::mem::take(&mut self.data) {
            Data::NotAsked => false,
            Data::Asked { synced } | Data::Ended { synced } => synced,
        }
    }

    /// True if the server has asked for data, and the COPY is not over.
    pub(super) fn is_on(&self) -> bool {
        self.data != Data::NotAsked
    }

    /// True if what the client sends now is taken for data.
    pub(super) fn takes_data(&self) -> bool {
        matches!(self.data, Data::Asked { .. })
    }

    /// True if the client has sent all data of the COPY that it sent last.
    pub(super) fn is_complete(&self) -> bool {
        self.end_sent
    }

    /// The server asks for data in answer to the statement in front of the ledger.
    pub(super) fn check(&self, ledger: &Ledger) -> Result<(), String> {
        let runs = matches!(ledger.front(), Some(Expect::Query(_) | Expect::Execute(_)));
        let rules = [(
            runs || !self.is_on(),
            "data are asked for by a statement in front",
        )];
        super::check::all("COPY", rules, self)
    }
}
