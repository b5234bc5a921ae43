//! A setting of a session, as its statements say it.

use crate::sql::Value;

/// The value that a setting has for the session, and the one that it has until its transaction
/// ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting<T> {
    session: Value<T>,
    local: Option<Value<T>>,
}

impl<T> Default for Setting<T> {
    fn default() -> Self {
        Self::from(Value::Default)
    }
}

impl<T> From<Value<T>> for Setting<T> {
    fn from(session: Value<T>) -> Self {
        Self {
            session,
            local: None,
        }
    }
}

impl<T> Setting<T> {
    /// SET, or SET LOCAL.
    pub(super) fn set(&mut self, value: Value<T>, local: bool) {
        if local {
            self.local = Some(value);
        } else {
            *self = Self::from(value);
        }
    }

    /// The value that it has now is this one; how long it lasts was known before.
    pub(super) fn correct(&mut self, now: T) {
        *self.local.as_mut().unwrap_or(&mut self.session) = Value::Is(now);
    }

    /// True if it has a value that ends with the transaction.
    pub(super) fn is_local(&self) -> bool {
        self.local.is_some()
    }

    /// The transaction ends.
    pub(super) fn end_local(&mut self) {
        self.local = None;
    }

    /// The value that it has until the session ends, if it has no other until its transaction does.
    pub(super) fn lasting(&self) -> Option<&Value<T>> {
        self.local.is_none().then_some(&self.session)
    }

    /// The value that it has now.
    pub(super) fn now(&self) -> &Value<T> {
        self.local.as_ref().unwrap_or(&self.session)
    }
}
