//! The people whom a camera must no longer name, even though names in flight or a gallery not yet
//! reloaded still contain them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use face_gallery::Gallery;
use gst::prelude::*;
use parking_lot::Mutex;

use face_meta::names::UNKNOWN;
use face_meta::record::Line;

/// The forgotten names of one camera.
#[derive(Default)]
pub struct Forgotten {
    /// For each name, whether the gallery has been without it since. If the name comes back after
    /// that, the person was enrolled again.
    names: Mutex<BTreeMap<String, bool>>,
    /// Whether there are any names. Checked for every frame.
    some: AtomicBool,
    /// Held from before a gallery is read until its people are noted. Of two galleries read at the
    /// same time, the older must not be noted last.
    looking: Mutex<()>,
}

impl Forgotten {
    pub fn add(&self, person: &str) {
        let mut names = self.names.lock();
        names.entry(person.to_owned()).or_default();
        self.some.store(true, Ordering::SeqCst);
    }

    pub fn has(&self, name: &str) -> bool {
        self.some.load(Ordering::SeqCst) && self.names.lock().contains_key(name)
    }

    /// Checks the gallery that is in use from now on. People who were missing from it and are back
    /// may be named again.
    pub fn look_at(&self, gallery: Option<&Path>) {
        if !self.some.load(Ordering::SeqCst) {
            return;
        }
        let _looking = self.looking.lock();
        // A gallery that cannot be read is not in use either.
        let Some(Ok(gallery)) = gallery.map(Gallery::read) else {
            return;
        };
        self.settle(gallery.people());
    }

    fn settle(&self, people: &[String]) {
        let mut names = self.names.lock();
        names.retain(|name, away| {
            let there = people.contains(name);
            let back = there && *away;
            *away = *away || !there;
            !back
        });
        self.some.store(!names.is_empty(), Ordering::SeqCst);
    }

    /// Removes the names from the frames that pass `pad`.
    pub fn watch(self: &Arc<Self>, pad: &gst::Pad) {
        let forgotten = self.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if forgotten.some.load(Ordering::SeqCst)
                && let Some(buffer) = info.buffer_mut()
            {
                forgotten.strip(buffer.make_mut());
            }
            gst::PadProbeReturn::Ok
        });
    }

    fn strip(&self, buffer: &mut gst::BufferRef) {
        let mut faces = face_meta::read(buffer);
        let mut changed = false;
        for face in &mut faces {
            if let Some(recognition) = &mut face.recognition
                && self.has(&recognition.name)
            {
                // The recogniser's name for people who are not in the gallery.
                UNKNOWN.clone_into(&mut recognition.name);
                changed = true;
            }
        }
        if changed {
            face_meta::update(buffer, &faces);
        }
    }

    /// Replaces the names in `line` by [`UNKNOWN`]. Returns the line to write, without the faces
    /// and tracks of those names. `None` if nothing is left.
    pub fn edit<'a>(&self, line: &'a mut Line) -> Option<Cow<'a, Line>> {
        if !self.some.load(Ordering::SeqCst) {
            return Some(Cow::Borrowed(line));
        }
        let names = self.names.lock();
        let is_forgotten = |name: &Option<String>| {
            let name = name.as_ref();
            name.is_some_and(|name| names.contains_key(name))
        };
        let hide = |name: &mut Option<String>, confidence: &mut Option<f64>| {
            if is_forgotten(name) {
                *name = Some(UNKNOWN.into());
                *confidence = None;
            }
        };
        let mut written = line.clone();
        match (&mut written, line) {
            (Line::Frame(written), Line::Frame(frame)) => {
                written.faces.retain(|face| !is_forgotten(&face.name));
                for face in &mut frame.faces {
                    hide(&mut face.name, &mut face.name_confidence);
                }
            }
            (_, Line::Track(track)) if is_forgotten(&track.name) => {
                hide(&mut track.name, &mut track.name_confidence);
                return None;
            }
            _ => {}
        }
        Some(Cow::Owned(written))
    }
}

#[cfg(test)]
mod tests {
    use face_meta::record::{Face, Frame, Track};

    use super::*;

    #[test]
    fn a_name_is_hidden_until_it_was_gone_and_is_back() {
        let forgotten = Forgotten::default();
        let people = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        forgotten.settle(&people(&["Ann"]));
        forgotten.add("Ann");
        assert!(forgotten.has("Ann") && !forgotten.has("Ann B"));
        // The gallery has not been edited yet, or will not be.
        forgotten.settle(&people(&["Ann", "Ann B"]));
        assert!(forgotten.has("Ann"));
        forgotten.settle(&people(&["Ann B"]));
        assert!(forgotten.has("Ann"), "names are in flight");
        forgotten.settle(&people(&["Ann B", "Ann"]));
        assert!(!forgotten.has("Ann"), "enrolled again");
    }

    #[test]
    fn lines_lose_the_name() {
        let forgotten = Forgotten::default();
        let face = |name: &str| Face {
            name: Some(name.into()),
            name_confidence: Some(0.9),
            ..Face::default()
        };
        let line = Line::Frame(Frame {
            faces: vec![face("Ann"), face("Ann B")],
            ..Frame::default()
        });
        let mut same = line.clone();
        assert_eq!(forgotten.edit(&mut same).as_deref(), Some(&line));
        assert_eq!(same, line);
        forgotten.add("Ann");
        let mut hidden = line;
        let names = |line: &Line| match line {
            Line::Frame(frame) => frame.faces.iter().map(|f| f.name.clone()).collect(),
            Line::Track(track) => vec![track.name.clone()],
        };
        let written = forgotten.edit(&mut hidden).expect("a face").into_owned();
        assert_eq!(names(&written), [Some("Ann B".to_owned())]);
        assert_eq!(
            names(&hidden),
            [Some(UNKNOWN.to_owned()), Some("Ann B".to_owned())]
        );
        let mut line = Line::Track(Track {
            name: Some("Ann".into()),
            ..Track::default()
        });
        assert_eq!(forgotten.edit(&mut line), None);
        assert_eq!(names(&line), [Some(UNKNOWN.to_owned())]);
    }
}
