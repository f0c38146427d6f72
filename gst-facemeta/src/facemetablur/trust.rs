//! Whether the regions of a frame can be where its faces are: what is between the detector and here may
//! have moved the picture without them.

use face_core::geometry::Rect;
use face_core::meta::{self, Shape};

/// Frames in a row without a trace of a detector, after which there may be none.
const UNTRACED: u32 = 25;

/// Why a face may be visible, or more than faces hidden. Each is said once in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    #[error(
        "the faces were found on frames of {}x{} pixels, and these of {}x{} have another aspect ratio: a \
         scaler that adds borders (videoscale does by default) moves regions as if it had none. Hidden \
         is where the faces are with borders, and where they are without. Put facemetablur in front of \
         the scaler, or scale to the aspect ratio of the picture",
        .found.0, .found.1, .here.0, .here.1
    )]
    Borders { found: (u32, u32), here: (u32, u32) },
    #[error(
        "faces are not hidden: an element in front (one that crops or turns the picture, such as \
         videocrop or videoflip) dropped their regions. Put facemetablur in front of it"
    )]
    Lost,
    #[error(
        "no frame so far has face metadata: put facedetector in front of facemetablur, with nothing in \
         between that makes new frames, such as compositor"
    )]
    NoDetector,
}

/// What is known of the frames.
#[derive(Debug, Default)]
pub struct Trust {
    /// Of the frames here.
    here: Option<Shape>,
    /// Of the frames that faces were last found on.
    found: Option<Shape>,
    /// Frames without metadata, before any with them.
    untraced: u32,
    traced: bool,
    said: Vec<Doubt>,
}

impl Trust {
    /// Takes the shape of the frames from here on.
    pub fn set_shape(&mut self, shape: Option<Shape>) {
        self.here = shape;
    }

    /// `doubt`, if it was not said before.
    fn say(&mut self, doubt: Doubt) -> Option<Doubt> {
        let new = !self.said.contains(&doubt);
        new.then(|| self.said.push(doubt))?;
        Some(doubt)
    }

    /// Looks at a frame's metadata. Answers what is to be said of it.
    pub fn look(&mut self, buffer: &gst::BufferRef) -> Option<Doubt> {
        if !self.traced {
            self.traced = meta::examined(buffer).is_some() || !meta::read(buffer).is_empty();
            self.untraced += 1;
            if !self.traced && self.untraced == UNTRACED {
                return self.say(Doubt::NoDetector);
            }
        }
        let lost = !meta::regions_follow() && meta::has_lost_regions(buffer);
        lost.then(|| self.say(Doubt::Lost)).flatten()
    }

    /// Where on a frame the faces with the regions `boxes` may be, and what is to be said of it.
    pub fn places(
        &mut self,
        buffer: &gst::BufferRef,
        mut boxes: Vec<Rect>,
    ) -> (Vec<Rect>, Option<Doubt>) {
        // A face that is held where it was may be on a frame without metadata.
        self.found = meta::shape(buffer).or(self.found);
        let (Some(found), Some(here), false) = (self.found, self.here, meta::regions_follow())
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
