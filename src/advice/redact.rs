//! Taking the storage layer's paths out of what Hologres said, for operators who do not want them
//! in clients' logs.

use std::borrow::Cow;

const REDACTED: &str = "pangu://[redacted]";

/// `text` with every pangu path, and every `/product/odps/…` that stands alone, replaced. A path
/// that a line break cuts in two goes as a whole: rather too much is taken than too little.
pub fn redact_path(text: &str) -> Cow<'_, str> {
    let lower = text.to_ascii_lowercase();
    let mut redacted = String::new();
    let mut kept = 0;
    while let Some(start) = ["pangu://", "/product/odps/"]
        .iter()
        .filter_map(|begin| lower[kept..].find(begin))
        .min()
        .map(|at| kept + at)
    {
        let end = [
            lower[start..].find([',', '"', '\'', '}']),
            lower[start..].find("errorcode"),
        ]
        .into_iter()
        .flatten()
        .min()
        .map_or(text.len(), |at| start + at);
        redacted.push_str(&text[kept..start]);
        redacted.push_str(REDACTED);
        kept = end;
    }
    if kept == 0 {
        return text.into();
    }
    redacted.push_str(&text[kept..]);
    redacted.into()
}
