//! PostgreSQL's frontend/backend protocol, as far as Osprey looks into it: frame headers, typed
//! views of the few messages that matter, and the messages that Osprey itself composes.
