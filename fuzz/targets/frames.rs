//! The frame walk and the views of messages: whatever the bytes are, a walk ends, frames do not
//! overlap, and what a view shows lies within the message.

use osprey::wire::backend::{ErrorFields, Status, command_tag};
use osprey::wire::frontend::{Bind, Parse, Target, execute_portal, query_text};
use osprey::wire::{HEADER, Header, compose, split_cstr};

/// Walks over the whole input, and looks at every whole frame in every way.
pub(crate) fn run(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(header)) = Header::read(rest) {
        assert!(header.frame >= HEADER, "{header:?}");
        assert_eq!(header.tag, rest[0]);
        let Some((frame, behind)) = rest.split_at_checked(header.frame) else {
            // Only the head is there: it is looked at like a whole one.
            look(&rest[HEADER..]);
            return;
        };
        look(&frame[HEADER..]);
        composed_again(frame);
        rest = behind;
    }
    look(rest);
}

fn look(body: &[u8]) {
    let text = query_text(body);
    assert!(body.starts_with(text));
    assert!(!text.contains(&0));
    if let Some(parse) = Parse::read(body) {
        assert!(parse.name.len() + 1 + parse.text.len() <= body.len());
        assert_eq!(split_cstr(body).map(|(name, _)| name), Some(parse.name));
    }
    if let Some(bind) = Bind::read(body) {
        assert!(bind.portal.len() + bind.statement.len() + 2 <= body.len());
        assert_eq!(execute_portal(body), Some(bind.portal));
    }
    if let Some(Target::Statement(name) | Target::Portal(name)) = Target::read(body) {
        assert!(name.len() + 2 <= body.len());
    }
    assert!(body.starts_with(command_tag(body)));
    let _ = Status::read(body);
    let fields = ErrorFields::new(body);
    let bytes: usize = fields.iter().map(|(_, value)| value.len() + 2).sum();
    assert!(bytes <= body.len());
    let _ = fields.is_fatal();
}

/// An error made of the fields of this one has the same fields.
fn composed_again(frame: &[u8]) {
    let fields = ErrorFields::new(&frame[HEADER..]);
    let mut again = Vec::new();
    compose::error(&mut again, fields.iter());
    assert!(again.len() <= frame.len() + HEADER + 1);
    let header = Header::read(&again).expect("a length").expect("a header");
    assert_eq!(header.frame, again.len());
    assert!(ErrorFields::new(&again[HEADER..]).iter().eq(fields.iter()));
}
