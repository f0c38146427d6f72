//! The people whom a camera must not name any more, though names in flight, or a gallery that was not
//! read again yet, still have them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use face_core::meta;
use gst::prelude::*;
use gstfacerecog::gallery::Gallery;

use crate::forget::lines::{Edit, Tracks};
use crate::record::{Line, UNKNOWN};

/// The forgotten names of one camera.
#[derive(Default)]
pub struct Forgotten {
    /// With whether the gallery was without the name since: who is in it after that was enrolled again.
    names: Mutex<BTreeMap<String, bool>>,
    /// Whether there are names; looked at for every frame.
    some: AtomicBool,
    /// Held from before a gallery is read until its people are noted: of two that are read side by side
    /// the older one must not come last.
    looking: Mutex<()>,
}

impl Forgotten {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, person: &str) {
        let mut names = self.lock();
        names.entry(person.to_owned()).or_default();
        self.some.store(true, Ordering::SeqCst);
    }

    pub fn has(&self, name: &str) -> bool {
        self.some.load(Ordering::SeqCst) && self.lock().contains_key(name)
    }

    /// Looks at the gallery that is in use from now on. Whoever was away from it and is back in it may be
    /// named again.
    pub fn look_at(&self, gallery: Option<&Path>) {
        if !self.some.load(Ordering::SeqCst) {
            return;
        }
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        // One that cannot be read is not in use either.
        let Some(Ok(gallery)) = gallery.map(Gallery::read) else {
            return;
        };
        self.settle(gallery.people());
    }

    fn settle(&self, people: &[String]) {
        let mut names = self.lock();
        names.retain(|name, away| {
            let there = people.contains(name);
            let back = there && *away;
            *away = *away || !there;
            !back
        });
        self.some.store(!names.is_empty(), Ordering::SeqCst);
    }

    /// Takes the names off the frames that pass `pad`.
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
        let mut faces = meta::read(buffer);
        let mut changed = false;
        for face in &mut faces {
            if let Some(recognition) = &mut face.recognition
                && self.has(&recognition.name)
            {
                // As the recogniser says it of somebody whom the gallery does not have.
                UNKNOWN.clone_into(&mut recognition.name);
                changed = true;
            }
        }
        if changed {
            meta::update(buffer, &faces);
        }
    }

    /// The text of a line without the names, and `line` with [`UNKNOWN`] in their place. `None` if
    /// nothing is left of the text, which is as it was where it has none of the names.
    pub fn edit(&self, text: &str, line: &mut Line) -> Option<String> {
        let mut left = text.to_owned();
        if !self.some.load(Ordering::SeqCst) {
            return Some(left);
        }
        let names: Vec<String> = self.lock().keys().cloned().collect();
        hide(line, &names);
        for name in &names {
            match Tracks::of_line(name, &left) {
                Edit::Keep => {}
                Edit::Drop => return None,
                Edit::Change(text, _) => left = text + "\n",
            }
        }
        Some(left)
    }
}

fn hide(line: &mut Line, names: &[String]) {
    let hide = |name: &mut Option<String>, confidence: &mut Option<f64>| {
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            *name = Some(UNKNOWN.into());
            *confidence = None;
        }
    };
    match line {
        Line::Frame(frame) => {
            for face in &mut frame.faces {
                hide(&mut face.name, &mut face.name_confidence);
            }
        }
        Line::Track(track) => hide(&mut track.name, &mut track.name_confidence),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_hidden_until_it_was_gone_and_is_back() {
        let forgotten = Forgotten::default();
        let people = |names: &[&str]| names.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        forgotten.settle(&people(&["Ann"]));
        forgotten.add("Ann");
        assert!(forgotten.has("Ann") && !forgotten.has("Ann B"));
        // The gallery has not been edited yet, or is not to be.
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
        let text = "{\"type\":\"frame\",\"frame\":1,\"pts\":1,\"width\":9,\"height\":9,\"faces\":[\
                    {\"box\":[1.0,1.0,2.0,2.0],\"track\":3,\"name\":\"Ann\"},\
                    {\"box\":[1.0,1.0,2.0,2.0],\"track\":4,\"name\":\"Ann B\"}]}\n";
        let line: Line = serde_json::from_str(text).expect("a line");
        let mut same = line.clone();
        assert_eq!(forgotten.edit(text, &mut same).as_deref(), Some(text));
        assert_eq!(same, line);
        forgotten.add("Ann");
        let mut hidden = line;
        let left = forgotten.edit(text, &mut hidden).expect("a face");
        assert!(!left.contains("\"Ann\"") && left.contains("\"Ann B\"") && left.ends_with("}\n"));
        let Line::Frame(frame) = hidden else {
            panic!("a frame");
        };
        let names: Vec<_> = frame.faces.iter().map(|f| f.name.as_deref()).collect();
        assert_eq!(names, [Some(UNKNOWN), Some("Ann B")]);
        let track =
            r#"{"type":"track","track":3,"first_pts":1,"last_pts":2,"frames":1,"name":"Ann"}"#;
        let mut line: Line = serde_json::from_str(track).expect("a line");
        assert_eq!(forgotten.edit(track, &mut line), None);
    }
}
