//! What the log says where sessions are only observed (`route.mode = "observe"`): one writer and one
//! reader have these words in common.

/// A session's first statement that would have been steered.
pub const WOULD_SWITCH: &str =
    "only observed: this session would have been switched to the engine for encrypted data";
/// Any other of its statements; logged at level debug.
pub const WOULD_STEER: &str = "only observed: another statement would have been steered";
/// An error that would have been rewritten.
pub const WOULD_REWRITE: &str = "only observed: an error about encrypted data passed as it came";
