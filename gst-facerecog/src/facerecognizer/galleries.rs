//! The element's gallery: read, watched, and exchanged while the stream plays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use face_core::Error;
use gst::prelude::*;
use gst::subclass::prelude::*;

use super::imp::{FaceRecognizer, judge};
use crate::gallery::watch::{self, Seen, Told, Watch};
use crate::gallery::{Gallery, ModelId};
use crate::recognizer::Recognizer;

/// The name of the element message that a gallery was taken over.
const GALLERY_CHANGED: &str = "face-gallery-changed";

/// What a gallery must fit.
#[derive(Clone)]
pub struct Fit {
    model: ModelId,
    dimensions: usize,
}

impl Fit {
    pub fn new(recognizer: &Recognizer) -> Self {
        Self {
            model: recognizer.model_id(),
            dimensions: recognizer.dimensions(),
        }
    }

    fn check(&self, path: &Path, gallery: &Gallery) -> Result<(), Error> {
        gallery.expect_model(path, &self.model)?;
        if gallery.dimensions() != self.dimensions {
            return Err(Error::invalid(
                path,
                format!(
                    "embeddings of {} dimensions, the model gives {}; enroll anew with this model",
                    gallery.dimensions(),
                    self.dimensions
                ),
            ));
        }
        Ok(())
    }

    /// Reads a gallery, which must fit.
    pub fn open(&self, path: &Path) -> Result<(Arc<Gallery>, Seen), Error> {
        let (gallery, seen) = watch::open(path)?;
        self.check(path, &gallery)?;
        Ok((gallery, seen))
    }
}

/// What the property `stats` tells of the gallery.
#[derive(Default)]
pub struct Counters {
    rows: AtomicU64,
    people: AtomicU64,
    loads: AtomicU64,
}

impl Counters {
    pub fn reset(&self, gallery: Option<&Gallery>) {
        self.loads.store(0, Ordering::Relaxed);
        self.count(gallery);
    }

    fn count(&self, gallery: Option<&Gallery>) {
        let rows = gallery.map_or(0, Gallery::len);
        let people = gallery.map_or(0, |g| g.people().len());
        self.rows.store(rows as u64, Ordering::Relaxed);
        self.people.store(people as u64, Ordering::Relaxed);
        if gallery.is_some() {
            self.loads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `gallery-rows` and `gallery-people` of the gallery in use, and `gallery-loads`, how many were taken
    /// over since the start.
    pub fn add_to(&self, stats: &mut gst::Structure) {
        for (name, counter) in [
            ("gallery-rows", &self.rows),
            ("gallery-people", &self.people),
            ("gallery-loads", &self.loads),
        ] {
            stats.set(name, counter.load(Ordering::Relaxed));
        }
    }
}

impl FaceRecognizer {
    /// Takes over what the property `gallery` names now, which is read on the caller's thread; the gallery
    /// in use stays if that cannot be used. At rest, the start does it.
    pub(super) fn gallery_set(&self) {
        let settings = self.settings().clone();
        let serial = settings.gallery_serial;
        let (fit, watch) = match self.state().as_mut() {
            Some(state) => {
                state.gallery_serial = serial;
                (Fit::new(&state.recognizer), state.watch.take())
            }
            None => return,
        };
        // Not under the lock, as all watches below.
        drop(watch);
        let Some(path) = &settings.gallery else {
            self.adopt(serial, None);
            return;
        };
        // Before it is read, so that no change goes unseen.
        let before = Seen::at(path);
        let known = match fit.open(path) {
            Ok((gallery, seen)) => {
                if self.adopt(serial, Some(Arc::clone(&gallery))) {
                    self.announce(path, &gallery);
                }
                seen
            }
            Err(error) => {
                self.refused(&error);
                before
            }
        };
        self.watch(known);
    }

    /// Watches the file of the gallery, which was `known` already, if that is wanted.
    pub(super) fn watch(&self, known: Seen) {
        let settings = self.settings().clone();
        let Some(path) = settings.gallery.filter(|_| settings.watch) else {
            return;
        };
        let serial = settings.gallery_serial;
        let fit = match self.state().as_ref() {
            Some(state) if state.gallery_serial == serial => Fit::new(&state.recognizer),
            _ => return,
        };
        let watch = Watch::new(&path, known, self.told(path.clone(), serial, fit));
        match watch {
            Ok(watch) => {
                let outdated = match self.state().as_mut() {
                    Some(state) if state.gallery_serial == serial => state.watch.replace(watch),
                    _ => Some(watch),
                };
                drop(outdated);
            }
            Err(error) => gst::element_imp_warning!(
                self,
                gst::ResourceError::Failed,
                (
                    "{} cannot be watched for changes: {error}; set the property gallery again when it \
                     was changed",
                    path.display()
                )
            ),
        }
    }

    fn told(&self, path: PathBuf, serial: u64, fit: Fit) -> Told {
        let element = self.obj().downgrade();
        Arc::new(move |read| {
            let Some(element) = element.upgrade() else {
                return;
            };
            let element = element.imp();
            let refused = match read {
                Ok(gallery) => match fit.check(&path, gallery) {
                    Ok(()) => return element.changed(&path, serial, gallery),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            if element.settings().gallery_serial == serial {
                element.refused(&refused);
            }
        })
    }

    /// Takes over a changed gallery.
    fn changed(&self, path: &Path, serial: u64, gallery: &Arc<Gallery>) {
        let current = match self.state().as_ref() {
            Some(state) if state.gallery_serial == serial => state.gallery.clone(),
            _ => return,
        };
        if let Some(current) = current
            && current.is_like(gallery)
        {
            // The file is another one, or another time stands on it: share it with the others.
            let mut state = self.state();
            if let Some(state) = state.as_mut()
                && state.gallery_serial == serial
            {
                state.gallery = Some(Arc::clone(gallery));
            }
            return;
        }
        if self.adopt(serial, Some(Arc::clone(gallery))) {
            self.announce(path, gallery);
        }
    }

    /// Exchanges the gallery and names all tracks anew, by the embeddings that are known of them. Searching
    /// is done without keeping the stream waiting. `false` if something else was set in the meantime.
    fn adopt(&self, serial: u64, gallery: Option<Arc<Gallery>>) -> bool {
        let settings = self.settings().clone();
        let mut embeddings: Vec<Arc<[f32]>> = Vec::new();
        let model_threshold = match self.state().as_mut() {
            Some(state) => {
                let kept = state.tracks.values_mut().flat_map(|t| t.evidence.kept());
                embeddings.extend(kept.map(|kept| Arc::clone(&kept.embedding)));
                state.recognizer.distance_threshold()
            }
            None => return false,
        };
        let judge = |embedding: &[f32]| {
            let gallery = gallery.as_ref()?;
            Some(judge(gallery, embedding, &settings, model_threshold))
        };
        let verdicts: HashMap<*const f32, _> = embeddings
            .iter()
            .map(|embedding| (embedding.as_ptr(), judge(embedding)))
            .collect();
        let mut guard = self.state();
        let Some(state) = guard.as_mut().filter(|s| s.gallery_serial == serial) else {
            return false;
        };
        for track in state.tracks.values_mut() {
            track.evidence.revote(|kept| {
                // One that was added since is looked up now.
                match verdicts.get(&kept.embedding.as_ptr()) {
                    Some(verdict) => verdict.clone(),
                    None => judge(&kept.embedding),
                }
            });
        }
        self.counters.count(gallery.as_deref());
        let old = std::mem::replace(&mut state.gallery, gallery.clone());
        drop(guard);
        // Freeing a large one takes time, too.
        drop(old);
        true
    }

    fn announce(&self, path: &Path, gallery: &Gallery) {
        let element = self.obj();
        let structure = gst::Structure::builder(GALLERY_CHANGED)
            .field("path", path.to_string_lossy().into_owned())
            .field("rows", gallery.len() as u64)
            .field("people", gallery.people().len() as u64)
            .build();
        let message = gst::message::Element::builder(structure).src(&*element);
        // Without a bus there is nobody to be told.
        let _ = element.post_message(message.build());
    }

    fn refused(&self, error: &impl std::fmt::Display) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("{error}; the gallery in use stays")
        );
    }
}
