//! Tells a camera's strangers apart, and knows them again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use face_meta::names::UNKNOWN;
use face_meta::record::{Frame, Line};
use jiff::Timestamp;

use super::moment::Moment;
use crate::recent::CameraTracks;
use crate::strangers::keeper::Keeper;
use crate::strangers::{Look, Model, Sighting, Who};

/// How often to look again at a stranger who could not be told yet.
const RETRY: Duration = Duration::from_secs(1);

/// As it is written. Otherwise it would not be the same after a restart.
fn in_whole_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// The tracks on a camera's screen.
pub struct Returning {
    camera: String,
    keeper: Arc<Keeper>,
    /// `None` if strangers are not told apart.
    model: Option<Arc<Model>>,
    embeddings: Arc<CameraTracks>,
    tracks: BTreeMap<u64, Shown>,
}

/// A track.
struct Shown {
    first: Timestamp,
    last: Timestamp,
    /// Its name in the last frame that gave it one.
    name: Option<String>,
    /// When it was last tried to tell who it is; `None` until it is reported as a stranger.
    tried: Option<Instant>,
    stranger: Option<u64>,
}

impl Shown {
    fn sighting<'a>(&self, camera: &'a str, track: u64) -> Sighting<'a> {
        Sighting {
            camera,
            track,
            first: self.first,
            last: self.last,
        }
    }
}

impl Returning {
    /// `model` is the recognition model of the camera.
    pub fn new(
        camera: &str,
        model: &str,
        keeper: &Arc<Keeper>,
        embeddings: &Arc<CameraTracks>,
    ) -> Self {
        Self {
            camera: camera.to_owned(),
            keeper: keeper.clone(),
            model: keeper.model(model),
            embeddings: embeddings.clone(),
            tracks: BTreeMap::new(),
        }
    }

    /// Takes note of a line, before its happenings are reported. Returns the strangers who were
    /// reported before and are told only now.
    pub fn line(&mut self, line: &Line, moment: Moment) -> Vec<(u64, Who)> {
        if self.model.is_none() {
            return Vec::new();
        }
        match line {
            Line::Frame(frame) => self.frame(frame, moment),
            Line::Track(track) => self.ended(track.track).into_iter().collect(),
        }
    }

    /// Who a track is that is reported as a stranger.
    pub fn who(&mut self, track: u64, moment: Moment) -> Option<Who> {
        self.model.as_ref()?;
        self.tracks.get_mut(&track)?.tried = Some(moment.instant);
        self.tell(track)
    }

    /// The camera's pipeline ended, and with it all tracks.
    pub fn lost(&mut self) {
        let tracks: Vec<u64> = self.tracks.keys().copied().collect();
        tracks.into_iter().for_each(|track| drop(self.ended(track)));
    }

    fn frame(&mut self, frame: &Frame, moment: Moment) -> Vec<(u64, Who)> {
        let time = in_whole_millis(moment.time);
        let detected = frame.faces.iter().filter(|face| !face.predicted);
        let mut again = Vec::new();
        for face in detected {
            let Some(id) = face.track else { continue };
            let shown = self.tracks.entry(id).or_insert(Shown {
                first: time,
                last: time,
                name: None,
                tried: None,
                stranger: None,
            });
            shown.last = time.max(shown.first);
            if let Some(name) = &face.name {
                shown.name = Some(name.clone());
            }
            let known = shown.name.as_deref().filter(|name| *name != UNKNOWN);
            let sighting = shown.sighting(&self.camera, id);
            match (shown.stranger, known) {
                (Some(number), Some(name)) => {
                    let name = name.to_owned();
                    shown.stranger = None;
                    self.keeper
                        .change(|all| all.withdraw(number, &sighting, &name));
                }
                (Some(number), None) => self.keeper.change(|all| all.again(number, &sighting)),
                (None, None) => {
                    let due =
                        |tried: Instant| moment.instant.saturating_duration_since(tried) >= RETRY;
                    if shown.tried.is_some_and(due) {
                        shown.tried = Some(moment.instant);
                        again.push(id);
                    }
                }
                (None, Some(_)) => {}
            }
        }
        again
            .into_iter()
            .filter_map(|track| Some((track, self.tell(track)?)))
            .collect()
    }

    /// A track has ended: this is all that was seen of it.
    fn ended(&mut self, track: u64) -> Option<(u64, Who)> {
        let told = self
            .tracks
            .get(&track)
            .filter(|shown| shown.stranger.is_none() && shown.tried.is_some())
            .filter(|shown| shown.name.as_deref() == Some(UNKNOWN))
            .is_some()
            .then(|| self.tell(track))
            .flatten();
        let shown = self.tracks.remove(&track)?;
        if let (Some(number), Some(model)) = (shown.stranger, &self.model)
            && let Some(embeddings) = self.embeddings.weighted(track, &model.id.name)
        {
            let look = Look {
                sighting: shown.sighting(&self.camera, track),
                model,
                embeddings: &embeddings,
            };
            self.keeper.change(|all| all.complete(number, &look));
        }
        told.map(|who| (track, who))
    }

    fn tell(&mut self, track: u64) -> Option<Who> {
        let model = self.model.as_ref()?;
        let embeddings = self.embeddings.weighted(track, &model.id.name)?;
        let shown = self.tracks.get_mut(&track)?;
        let look = Look {
            sighting: shown.sighting(&self.camera, track),
            model,
            embeddings: &embeddings,
        };
        let (number, who) = self.keeper.change(|all| all.see(&look))?;
        shown.stranger = Some(number);
        Some(who)
    }
}
