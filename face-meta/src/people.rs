//! The event that lists the people whom upstream recognisers know.

use std::collections::BTreeSet;

use crate::names;

/// The name of the sticky downstream event.
pub const KNOWN_PEOPLE: &str = "face-known-people";

/// The people in the galleries of all recognisers upstream of an element.
///
/// A recogniser sends the event when a stream begins and when its gallery changes. It adds the
/// people of the recognisers upstream of itself, so the last event is complete. An element that
/// makes new streams, such as a compositor, may drop it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownPeople(pub BTreeSet<String>);

impl KnownPeople {
    /// Makes the event: a structure with the field `names`, a list of strings.
    pub fn to_event(&self) -> gst::Event {
        let names: Vec<String> = self.0.iter().cloned().collect();
        let structure = gst::Structure::builder(KNOWN_PEOPLE)
            .field("names", names)
            .build();
        gst::event::CustomDownstreamSticky::new(structure)
    }

    /// Parses an event; `None` if it is of another kind.
    pub fn from_event(event: &gst::EventRef) -> Option<Self> {
        let structure = event.structure().filter(|s| s.name() == KNOWN_PEOPLE)?;
        let names: Vec<String> = structure.get("names").ok()?;
        let names = names.iter().map(|name| names::normal(name).into_owned());
        Some(Self(names.collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_keeps_the_names() {
        gst::init().expect("GStreamer");
        for names in [&[][..], &["Ann", "Doe, Jane", "李雷"]] {
            let people = KnownPeople(names.iter().map(|name| (*name).to_owned()).collect());
            let event = people.to_event();
            assert!(event.is_sticky() && event.is_serialized());
            assert_eq!(KnownPeople::from_event(&event), Some(people));
        }
        assert_eq!(KnownPeople::from_event(&gst::event::Eos::new()), None);
    }
}
