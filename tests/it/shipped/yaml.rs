//! The shipped rules and their tests, read with the YAML parser of the daemon.

use std::fs;
use std::path::Path;

use saphyr_parser::{Event, Parser, StrInput};
use serde_json::{Map, Value};

/// A file as JSON would say it; every scalar is a text.
pub fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    let mut events = Parser::new_from_str(&text);
    loop {
        match next(&mut events) {
            Event::StreamStart | Event::DocumentStart(_) => {}
            event => return value(&mut events, event),
        }
    }
}

fn next<'t>(events: &mut Parser<'t, StrInput<'t>>) -> Event<'t> {
    events.next_event().expect("more of the file").unwrap().0
}

fn value<'t>(events: &mut Parser<'t, StrInput<'t>>, event: Event<'t>) -> Value {
    match event {
        Event::Scalar(text, ..) => Value::String(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut list = Vec::new();
            loop {
                match next(events) {
                    Event::SequenceEnd => return Value::Array(list),
                    event => list.push(value(events, event)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut map = Map::new();
            loop {
                match next(events) {
                    Event::MappingEnd => return Value::Object(map),
                    Event::Scalar(key, ..) => {
                        let event = next(events);
                        map.insert(key.into_owned(), value(events, event));
                    }
                    other => panic!("{other:?} is no key"),
                }
            }
        }
        other => panic!("{other:?} is no value"),
    }
}
