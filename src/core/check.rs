//! The form in which each machine says that one of its invariants does not hold.

use std::fmt::Debug;

/// The first rule that does not hold, with the state of the machine that breaks it.
pub(super) fn all<'a>(
    machine: &str,
    rules: impl IntoIterator<Item = (bool, &'a str)>,
    state: &impl Debug,
) -> Result<(), String> {
    let broken = rules.into_iter().find(|(holds, _)| !holds);
    broken.map_or(Ok(()), |(_, rule)| {
        Err(format!(
            "{machine} breaks its invariant \"{rule}\": {state:?}"
        ))
    })
}
