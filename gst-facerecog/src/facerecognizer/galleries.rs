//! The element's gallery: read, watched, and replaced while the stream plays.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use face_core::Error;
use face_gallery::vote::{Rule, Verdict, who};
use face_gallery::watch::{self, Content, Told, Watch};
use face_gallery::{Gallery, ModelId};
use face_meta::people::KnownPeople;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use parking_lot::Mutex;

use super::imp::{FaceRecognizer, State};
use super::look::rule;
use crate::recognizer::Recognizer;

/// The name of the element message after a new gallery was adopted.
const GALLERY_CHANGED: &str = "face-gallery-changed";

/// The requirements that a gallery must meet.
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
                    "embeddings of {} dimensions, but the model gives {}; enroll again with this model",
                    gallery.dimensions(),
                    self.dimensions
                ),
            ));
        }
        Ok(())
    }

    /// Reads a gallery and checks that it fits.
    pub fn open(&self, path: &Path) -> Result<(Arc<Gallery>, Content), Error> {
        let (gallery, seen) = watch::open(path)?;
        self.check(path, &gallery)?;
        Ok((gallery, seen))
    }
}

/// The gallery's part of the property `stats`.
#[derive(Default)]
pub struct Counters {
    rows: AtomicU64,
    people: AtomicU64,
    strangers: AtomicU64,
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
        let strangers = gallery.map_or(0, |g| g.strangers().len());
        self.strangers.store(strangers as u64, Ordering::Relaxed);
        if gallery.is_some() {
            self.loads.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Adds `gallery-rows`, `gallery-people` and `gallery-strangers` of the gallery in use, and `gallery-loads`, the
    /// number of galleries adopted since the start.
    pub fn add_to(&self, stats: &mut gst::Structure) {
        for (name, counter) in [
            ("gallery-rows", &self.rows),
            ("gallery-people", &self.people),
            ("gallery-strangers", &self.strangers),
            ("gallery-loads", &self.loads),
        ] {
            stats.set(name, counter.load(Ordering::Relaxed));
        }
    }
}

/// Announces downstream the people whom this element and recognisers upstream can name.
#[derive(Default)]
pub struct People {
    in_front: Mutex<KnownPeople>,
    /// Whether there is something new to announce.
    due: AtomicBool,
}

impl People {
    pub fn reset(&self) {
        *self.in_front.lock() = KnownPeople::default();
        self.tell();
    }

    pub fn set_in_front(&self, people: KnownPeople) {
        *self.in_front.lock() = people;
        self.tell();
    }

    /// Schedules an announcement before the next frame.
    pub fn tell(&self) {
        self.due.store(true, Ordering::Release);
    }
}

impl FaceRecognizer {
    /// Announces downstream whom this element can name, if that is new.
    pub(super) fn tell_people(&self) {
        if !self.people.due.swap(false, Ordering::Acquire) {
            return;
        }
        let mut people = self.people.in_front.lock().clone();
        if let Some(state) = self.state.lock().as_ref()
            && let Some(gallery) = &state.gallery
        {
            people.0.extend(gallery.people().iter().cloned());
        }
        self.obj().src_pad().push_event(people.to_event());
    }

    /// Adopts the gallery that the property `gallery` now names. It is read on the caller's thread.
    /// If it cannot be used, the current gallery stays. In the states NULL and READY, the start
    /// does this.
    pub(super) fn gallery_set(&self) {
        let settings = self.settings.lock().clone();
        let serial = settings.gallery_serial;
        let (fit, watch) = match self.state.lock().as_mut() {
            Some(state) => {
                state.gallery_serial = serial;
                (Fit::new(&state.recognizer), state.watch.take())
            }
            None => return,
        };
        // Outside the lock, like all watches below.
        drop(watch);
        let Some(path) = &settings.gallery else {
            self.adopt(serial, None);
            return;
        };
        // Before reading, so that no change is missed.
        let before = Content::at(path);
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

    /// Watches the gallery's file, if wanted. `known` is the content that was read.
    pub(super) fn watch(&self, known: Content) {
        let settings = self.settings.lock().clone();
        let Some(path) = settings.gallery.filter(|_| settings.watch) else {
            return;
        };
        let serial = settings.gallery_serial;
        let fit = match self.state.lock().as_ref() {
            Some(state) if state.gallery_serial == serial => Fit::new(&state.recognizer),
            _ => return,
        };
        let watch = Watch::new(&path, known, self.told(path.clone(), serial, fit));
        match watch {
            Ok(watch) => {
                let outdated = match self.state.lock().as_mut() {
                    Some(state) if state.gallery_serial == serial => state.watch.replace(watch),
                    _ => Some(watch),
                };
                drop(outdated);
            }
            Err(error) => gst::element_imp_warning!(
                self,
                gst::ResourceError::Failed,
                (
                    "{} cannot be watched for changes: {error}; set the property gallery again after a \
                     change",
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
            if element.settings.lock().gallery_serial == serial {
                element.refused(&refused);
            }
        })
    }

    /// Adopts a changed gallery.
    fn changed(&self, path: &Path, serial: u64, gallery: &Arc<Gallery>) {
        let current = match self.state.lock().as_ref() {
            Some(state) if state.gallery_serial == serial => state.gallery.clone(),
            _ => return,
        };
        if let Some(current) = current
            && current.is_like(gallery)
        {
            // The file or only its timestamp changed, so share the gallery under its new content.
            let mut state = self.state.lock();
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

    /// Replaces the gallery and names all tracks again from their embeddings. The search does not
    /// block the stream. Returns `false` if the setting changed in the meantime.
    fn adopt(&self, serial: u64, gallery: Option<Arc<Gallery>>) -> bool {
        let Some(judged) = self.judge_all(gallery.as_deref()) else {
            return false;
        };
        let mut guard = self.state.lock();
        let Some(state) = guard.as_mut().filter(|s| s.gallery_serial == serial) else {
            return false;
        };
        judged.tell(state, gallery.as_deref());
        self.counters.count(gallery.as_deref());
        let old = std::mem::replace(&mut state.gallery, gallery.clone());
        drop(guard);
        self.people.tell();
        // Freeing a large gallery takes time, too.
        drop(old);
        true
    }

    /// Names all tracks again after a change of the rule.
    pub(super) fn rule_set(&self) {
        let gallery = match self.state.lock().as_ref() {
            Some(state) => state.gallery.clone(),
            None => return,
        };
        if let Some(judged) = self.judge_all(gallery.as_deref())
            && let Some(state) = self.state.lock().as_mut()
            && state.gallery.as_ref().map(Arc::as_ptr) == gallery.as_ref().map(Arc::as_ptr)
        {
            judged.tell(state, gallery.as_deref());
        }
    }

    /// Decides who all tracks are, without blocking the stream. `None` if it has ended.
    fn judge_all(&self, gallery: Option<&Gallery>) -> Option<Judged> {
        let settings = self.settings.lock().clone();
        let mut guard = self.state.lock();
        let state = guard.as_mut()?;
        let rule = rule(&settings, &state.recognizer);
        let together = settings.vote;
        let tracks = state.rounds.summaries_mut();
        let found = tracks.filter_map(|track| track.embedding(together).cloned());
        let embeddings: Vec<Arc<[f32]>> = found.collect();
        drop(guard);
        let verdicts = embeddings.into_iter().map(|embedding| {
            let verdict = gallery.map(|gallery| who(gallery, &embedding, &rule));
            (embedding.as_ptr(), (embedding, verdict))
        });
        Some(Judged {
            verdicts: verdicts.collect(),
            rule,
            together,
        })
    }

    fn announce(&self, path: &Path, gallery: &Gallery) {
        let element = self.obj();
        let structure = gst::Structure::builder(GALLERY_CHANGED)
            .field("path", path.to_string_lossy().into_owned())
            .field("rows", gallery.len() as u64)
            .field("people", gallery.people().len() as u64)
            .build();
        let message = gst::message::Element::builder(structure).src(&*element);
        // Fails only without a bus.
        let _ = element.post_message(message.build());
    }

    fn refused(&self, error: &impl std::fmt::Display) {
        gst::element_imp_warning!(
            self,
            gst::ResourceError::Settings,
            ("{error}; the current gallery stays in use")
        );
    }
}

/// Who tracks are, by the place in memory of the embedding that was asked for.
struct Judged {
    /// With the embeddings, so that their memory is not used again.
    verdicts: HashMap<*const f32, (Arc<[f32]>, Option<Verdict>)>,
    rule: Rule,
    together: bool,
}

impl Judged {
    /// Tells the tracks. Those with embeddings added since are looked up now.
    fn tell(self, state: &mut State, gallery: Option<&Gallery>) {
        for track in state.rounds.summaries_mut() {
            let verdict = track.embedding(self.together).and_then(|embedding| {
                match self.verdicts.get(&embedding.as_ptr()) {
                    Some((_, verdict)) => verdict.clone(),
                    None => gallery.map(|gallery| who(gallery, embedding, &self.rule)),
                }
            });
            track.judge(verdict);
        }
    }
}
