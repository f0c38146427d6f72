//! Which faces of a frame a stage processes, and what it knows of each over its track.

use std::collections::HashSet;
use std::time::Duration;

use face_meta::Face;

use crate::error::Error;
use crate::frame;
use crate::image::ReadFrame;
use crate::late::{Budget, Share, turns};
use crate::session::Place;
use crate::stats::Work;
use crate::tracks::{Pace, Schedule, Tracks};

/// What a stage does with one face.
pub trait Stage {
    /// What the stage keeps per track.
    type Summary: Default;

    /// The number of results since the summary was settled; see [`Schedule::is_due`].
    fn settled(summary: &Self::Summary) -> u32;

    /// Gets a place for an inference. Waits no longer than `patience`.
    fn place(&self, patience: Option<Duration>) -> Option<Place>;

    /// Processes a face and adds the result to its summary.
    fn look(
        &mut self,
        frame: &ReadFrame,
        face: &mut Face,
        summary: &mut Self::Summary,
        work: &mut Work,
    ) -> Result<(), Error>;

    /// Writes the summary's results into the face.
    fn tell(&self, summary: &Self::Summary, face: &mut Face);

    /// Writes the results into all faces of a frame.
    fn tell_all(&self, faces: &mut [(Self::Summary, &mut Face)]) {
        for (summary, face) in faces {
            self.tell(summary, face);
        }
    }
}

/// The tracks of one stream.
#[derive(Debug)]
pub struct Rounds<S> {
    tracks: Tracks<(S, Schedule)>,
    /// Frames since the start.
    frames: u64,
}

impl<S> Default for Rounds<S> {
    fn default() -> Self {
        Self {
            tracks: Tracks::default(),
            frames: 0,
        }
    }
}

impl<S: Default> Rounds<S> {
    /// Lets `stage` process the faces that are due, as many as `budget` allows. Those that were
    /// passed over most often come first. Then writes what is known into all faces. The buffer is
    /// mapped only if a face is due.
    pub fn go<T: Stage<Summary = S>>(
        &mut self,
        stage: &mut T,
        (buffer, info): (&gst::BufferRef, Option<&gst_video::VideoInfo>),
        faces: &mut [Face],
        pace: Pace,
        budget: &mut Budget<impl Fn() -> Share>,
        work: &mut Work,
    ) -> Result<(), Error> {
        let time = buffer.pts().map(gst::ClockTime::nseconds);
        let examined = face_meta::examined(buffer).unwrap_or(true);
        let mut mapped = None;
        self.frames += 1;
        let passed: Vec<u32> = faces
            .iter()
            .map(|face| face.track.map_or(0, |t| self.tracks.get(t.id).1.passed()))
            .collect();
        // The summaries of faces without a track.
        let mut alone: Vec<Option<S>> = faces.iter().map(|_| None).collect();
        for i in turns(&passed, self.frames) {
            let face = &mut faces[i];
            let mut schedule = Schedule::default();
            let (summary, schedule) = match face.track {
                Some(track) => {
                    let (summary, schedule) = self.tracks.get(track.id);
                    (summary, schedule)
                }
                None => (alone[i].get_or_insert_default(), &mut schedule),
            };
            schedule.see(time, examined && face.is_predicted());
            let due = !face.is_predicted() && schedule.is_due(pace, T::settled(summary), time);
            let place = due.then(|| budget.begin(|patience| stage.place(patience)));
            if let Some(None) = place {
                schedule.pass_over();
                work.dropped += 1;
            } else if place.is_some() {
                let info =
                    info.ok_or_else(|| Error::Frame("a frame came before its caps".into()))?;
                let frame = match &mapped {
                    Some(frame) => frame,
                    None => mapped.insert(frame::map(buffer, info)?),
                };
                stage.look(frame, face, summary, work)?;
                drop(place);
                schedule.done(time);
                budget.spend();
            }
        }
        self.tell(stage, faces, alone);
        Ok(())
    }

    fn tell<T: Stage<Summary = S>>(
        &mut self,
        stage: &T,
        faces: &mut [Face],
        alone: Vec<Option<S>>,
    ) {
        let mut seen = HashSet::new();
        let (mut each, mut twice) = (Vec::with_capacity(faces.len()), Vec::new());
        for (face, alone) in faces.iter_mut().zip(alone) {
            match face.track {
                Some(track) if !seen.insert(track.id) => twice.push((track.id, face)),
                Some(track) => each.push((std::mem::take(&mut self.tracks.get(track.id).0), face)),
                None => each.push((alone.unwrap_or_default(), face)),
            }
        }
        stage.tell_all(&mut each);
        for (summary, face) in each {
            if let Some(track) = face.track {
                self.tracks.get(track.id).0 = summary;
            }
        }
        // A frame may have two regions with the same track.
        for (id, face) in twice {
            stage.tell(&self.tracks.get(id).0, face);
        }
    }

    /// The summaries of all tracks.
    pub fn summaries_mut(&mut self) -> impl Iterator<Item = &mut S> {
        self.tracks.values_mut().map(|(summary, _)| summary)
    }

    /// Ends the tracks that an event ends.
    pub fn handle(&mut self, event: &gst::Event) {
        self.tracks.handle(event);
    }
}
