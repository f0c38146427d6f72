//! Whether a frame's regions can be trusted: elements between the detector and this one may have
//! moved the picture without them.

use face_meta::Shape;
use face_meta::geometry::Rect;

/// After this many frames in a row without a sign of a detector, there may be none.
const UNTRACED: u32 = 25;

/// Why faces may be visible, or more than faces be hidden. Each is reported once per stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the faces were found on frames of {}x{} pixels, but these of {}x{} have another aspect ratio: a \
         scaler that adds borders (videoscale does by default) moves regions as if there were none. Faces \
         are hidden both where they are with borders and where they are without. Put facemetablur in \
         front of the scaler, or scale to the aspect ratio of the picture",
        .found.0, .found.1, .here.0, .here.1
    )]
    Borders { found: (u32, u32), here: (u32, u32) },
    #[error(
        "faces are not hidden: an element upstream (one that crops or turns the picture, such as \
         videocrop or videoflip) dropped their regions. Put facemetablur in front of it"
    )]
    Lost,
    #[error(
        "no frame so far has face metadata: put facedetector in front of facemetablur, with nothing in \
         between that makes new frames, such as compositor"
    )]
    NoDetector,
}

/// The shapes of the frames.
#[derive(Debug, Default)]
pub struct Trust {
    /// The shape of the current frames.
    here: Option<Shape>,
    /// The shape of the frames on which faces were last found.
    found: Option<Shape>,
    /// Frames without metadata, before the first one with metadata.
    untraced: u32,
    traced: bool,
    said: Vec<Doubt>,
}

impl Trust {
    /// Sets the shape of the frames from here on.
    pub fn set_shape(&mut self, shape: Option<Shape>) {
        self.here = shape;
    }

    /// Returns `doubt` unless it has been reported.
    fn say(&mut self, doubt: Doubt) -> Option<Doubt> {
        let new = !self.said.contains(&doubt);
        new.then(|| self.said.push(doubt))?;
        Some(doubt)
    }

    /// Examines a frame's metadata. Returns what to report.
    pub fn look(&mut self, buffer: &gst::BufferRef) -> Option<Doubt> {
        if !self.traced {
            self.traced =
                face_meta::examined(buffer).is_some() || !face_meta::read(buffer).is_empty();
            self.untraced += 1;
            if !self.traced && self.untraced == UNTRACED {
                return self.say(Doubt::NoDetector);
            }
        }
        let lost = !face_meta::regions_follow() && face_meta::has_lost_regions(buffer);
        lost.then(|| self.say(Doubt::Lost)).flatten()
    }

    /// The possible places of faces with the regions `boxes`, and what to report.
    pub fn places(
        &mut self,
        buffer: &gst::BufferRef,
        mut boxes: Vec<Rect>,
    ) -> (Vec<Rect>, Option<Doubt>) {
        // A held face may be on a frame without metadata.
        self.found = face_meta::shape(buffer).or(self.found);
        let (Some(found), Some(here), false) = (self.found, self.here, face_meta::regions_follow())
        else {
            return (boxes, None);
        };
        let Some(picture) = found.within(&here) else {
            return (boxes, None);
        };
        let (width, height) = here.size();
        let (sx, sy) = (picture.w / f64::from(width), picture.h / f64::from(height));
        boxes.extend(boxes.clone().iter().map(|face| {
            let face = face.scaled(sx, sy);
            Rect::new(face.x + picture.x, face.y + picture.y, face.w, face.h)
        }));
        let (found, here) = (found.size(), here.size());
        (boxes, self.say(Doubt::Borders { found, here }))
    }
}
