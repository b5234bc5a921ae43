//! Values by the names of prepared statements or portals: names as the server tells them apart, and no
//! more of them than there is room for, since a client may make names without end.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// A server looks at so many bytes of such a name (NAMEDATALEN - 1): its tables of them have keys of that
/// length.
const SIGNIFICANT: usize = 63;

/// What a name takes beside what its value holds: the key, the value, their place in the table.
const EACH: usize = 320;

/// Bytes of all values of one kind, with their names: some ten thousand of the usual ones.
const ROOM: usize = 4 << 20;

/// A value of which it is known how many bytes it holds.
pub(super) trait Weighed {
    /// The bytes that it holds, its own size excluded. It is the same however often it is asked for.
    fn weight(&self) -> usize;
}

/// What the server takes for the name.
pub(super) fn significant(name: &[u8]) -> &[u8] {
    &name[..name.len().min(SIGNIFICANT)]
}

/// What a value takes with its name.
pub(super) fn taken(value: &impl Weighed) -> usize {
    EACH + value.weight()
}

/// The values, by name.
#[derive(Debug)]
pub(super) struct Kept<V> {
    values: HashMap<Box<[u8]>, V, FixedState>,
    bytes: usize,
}

impl<V> Default for Kept<V> {
    fn default() -> Self {
        Self {
            values: HashMap::default(),
            bytes: 0,
        }
    }
}

impl<V: Weighed> Kept<V> {
    /// True if there is room for this value beside others that take `bytes` and are not here yet.
    pub(super) fn has_room(&self, value: &V, bytes: usize) -> bool {
        self.bytes + bytes + taken(value) <= ROOM
    }

    /// Keeps a value, if there is room for it. In any case the one before, which is returned, is that of
    /// the name no more.
    pub(super) fn insert(&mut self, name: &[u8], value: V) -> Option<V> {
        let old = self.remove(name);
        if self.has_room(&value, 0) {
            self.bytes += taken(&value);
            self.values.insert(significant(name).into(), value);
        }
        old
    }

    pub(super) fn remove(&mut self, name: &[u8]) -> Option<V> {
        let old = self.values.remove(significant(name))?;
        self.bytes -= taken(&old);
        Some(old)
    }

    pub(super) fn clear(&mut self) {
        self.values = HashMap::default();
        self.bytes = 0;
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&V> {
        self.values.get(significant(name))
    }

    pub(super) fn get_mut(&mut self, name: &[u8]) -> Option<&mut V> {
        self.values.get_mut(significant(name))
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        self.values.contains_key(significant(name))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.values()
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.values.values_mut()
    }

    /// True if the bytes are counted, and no more than there is room for.
    pub(super) fn is_sound(&self) -> bool {
        self.bytes == self.values().map(taken).sum::<usize>() && self.bytes <= ROOM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Value(usize);

    impl Weighed for Value {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn names_are_told_apart_as_the_server_does() {
        let mut kept = Kept::default();
        let long = [b'x'; 200];
        assert_eq!(kept.insert(&long, Value(1)), None);
        assert_eq!(kept.insert(&long[..63], Value(2)), Some(Value(1)));
        assert_eq!(kept.get(&long[..100]), Some(&Value(2)));
        assert_eq!(kept.get(&long[..62]), None);
        assert_eq!(kept.remove(&long), Some(Value(2)));
        assert!(kept.is_sound() && kept.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many_and_for_others_once_they_are_gone() {
        let mut kept = Kept::default();
        let name = |number: usize| number.to_be_bytes();
        for number in 0..50_000 {
            kept.insert(&name(number), Value(100));
        }
        let most = ROOM / (EACH + 100);
        assert_eq!(kept.len(), most);
        assert!(kept.is_sound());
        assert!(kept.contains(&name(0)) && !kept.contains(&name(most)));
        // One that is too large takes the place of nobody, and leaves none of its own.
        assert_eq!(kept.insert(&name(1), Value(ROOM)), Some(Value(100)));
        assert!(!kept.contains(&name(1)));
        kept.insert(&name(most), Value(100));
        assert!(kept.contains(&name(most)) && kept.is_sound());
        kept.clear();
        assert!(kept.is_sound() && kept.has_room(&Value(0), 0));
        assert!(!kept.has_room(&Value(0), ROOM));
    }
}
