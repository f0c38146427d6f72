//! The shape of the frame on which faces were found. It tells whether their regions can be trusted
//! on another frame.
//!
//! Before GStreamer 1.28, a scaler that keeps the picture's shape and adds borders (as `videoscale`
//! does by default) moves regions as if it had stretched the picture. Elements that crop or turn
//! the picture drop them.

use gst::meta::CustomMeta;

use super::{META_NAME, field, regions, with_structure};
use crate::geometry::Rect;

/// Borders of fewer pixels, left and right or top and bottom together, move no region further than
/// rounding does.
const ROUNDING: u32 = 2;

/// Size and pixel aspect ratio of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    width: u32,
    height: u32,
    /// The width of a pixel relative to its height, as a fraction.
    par: (u32, u32),
}

impl Shape {
    fn new(width: i32, height: i32, par: (i32, i32)) -> Option<Self> {
        let positive = |value: i32| u32::try_from(value).ok().filter(|value| *value > 0);
        Some(Self {
            width: positive(width)?,
            height: positive(height)?,
            par: (positive(par.0)?, positive(par.1)?),
        })
    }

    /// Reads the shape from caps, or from what [`set_shape`] wrote; both have the same fields.
    pub fn read(structure: &gst::StructureRef) -> Option<Self> {
        let side = |name| structure.get::<i32>(name).ok();
        let par = structure.get::<gst::Fraction>("pixel-aspect-ratio");
        let par = par.map_or((1, 1), |par| (par.numer(), par.denom()));
        Self::new(side("width")?, side("height")?, par)
    }

    pub fn of(info: &gst_video::VideoInfo) -> Option<Self> {
        let (width, height) = (info.width() as i32, info.height() as i32);
        Self::new(width, height, (info.par().numer(), info.par().denom()))
    }

    pub fn size(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Where a picture of this shape lies in a frame of shape `frame` after a scaler has added borders
    /// to keep its aspect ratio; `None` if it would add none.
    pub fn within(&self, frame: &Self) -> Option<Rect> {
        let wide = |value: u32| u128::from(value);
        let across = wide(self.width) * wide(self.par.0) * wide(frame.par.1);
        let down = wide(self.height) * wide(self.par.1) * wide(frame.par.0);
        let height = wide(frame.width) * down / across;
        // The smaller of the two fits, so the casts lose nothing.
        let (width, height) = if height <= wide(frame.height) {
            (frame.width, height as u32)
        } else {
            let width = wide(frame.height) * across / down;
            (width as u32, frame.height)
        };
        let (beside, above) = (frame.width - width, frame.height - height);
        (beside > ROUNDING || above > ROUNDING).then(|| {
            Rect::new(
                f64::from(beside / 2),
                f64::from(above / 2),
                width.into(),
                height.into(),
            )
        })
    }
}

/// Records the shape of the frame on which faces are found, unless one is recorded. Scalers keep
/// it.
pub fn set_shape(buffer: &mut gst::BufferRef, shape: &Shape) {
    with_structure(buffer, |structure| {
        if Shape::read(structure).is_none() {
            structure.set("width", shape.width as i32);
            structure.set("height", shape.height as i32);
            let par = gst::Fraction::new(shape.par.0 as i32, shape.par.1 as i32);
            structure.set("pixel-aspect-ratio", par);
        }
    });
}

/// The shape of the frame on which the faces of this buffer were found, if known.
pub fn shape(buffer: &gst::BufferRef) -> Option<Shape> {
    let meta = CustomMeta::from_buffer(buffer, META_NAME).ok()?;
    Shape::read(meta.structure())
}

/// Whether this version's scalers and similar elements always move regions with the picture.
pub fn regions_follow() -> bool {
    let (major, minor, ..) = gst::version();
    (major, minor) >= (1, 28)
}

/// Whether the buffer has faces whose regions are gone.
pub fn has_lost_regions(buffer: &gst::BufferRef) -> bool {
    let Ok(meta) = CustomMeta::from_buffer(buffer, META_NAME) else {
        return false;
    };
    let kept: Vec<String> = regions(buffer).map(|(id, _)| field(id)).collect();
    let mut fields = meta.structure().fields();
    fields.any(|name| name.starts_with("face-") && !kept.iter().any(|kept| name == kept.as_str()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(width: i32, height: i32, par: (i32, i32)) -> Shape {
        Shape::new(width, height, par).expect("positive")
    }

    #[test]
    fn borders_are_those_of_videoscale() {
        let wide = shape(640, 360, (1, 1));
        let place = |frame| wide.within(&frame).map(|r| (r.x, r.y, r.w, r.h));
        let square = shape(320, 320, (1, 1));
        assert_eq!(place(square), Some((0.0, 70.0, 320.0, 180.0)));
        let broad = shape(960, 180, (1, 1));
        assert_eq!(place(broad), Some((320.0, 0.0, 320.0, 180.0)));
        // The same aspect ratio: with square pixels, with others, and up to rounding.
        assert_eq!(place(shape(320, 180, (1, 1))), None);
        assert_eq!(place(shape(320, 320, (16, 9))), None);
        assert_eq!(place(shape(854, 480, (1, 1))), None);
        assert_eq!(place(shape(853, 480, (1, 1))), None);
    }

    #[test]
    fn the_first_shape_stays() {
        gst::init().expect("GStreamer starts");
        let mut buffer = gst::Buffer::new();
        let buffer = buffer.get_mut().expect("only one owner");
        assert_eq!(super::shape(buffer), None);
        set_shape(buffer, &shape(640, 360, (4, 3)));
        set_shape(buffer, &shape(64, 36, (1, 1)));
        assert_eq!(super::shape(buffer), Some(shape(640, 360, (4, 3))));
        assert!(!has_lost_regions(buffer));
    }

    proptest! {
        #[test]
        fn the_picture_lies_within_the_frame(
            sides in prop::array::uniform4(1..i32::MAX),
            pars in prop::array::uniform4(1..i32::MAX),
        ) {
            let picture = shape(sides[0], sides[1], (pars[0], pars[1]));
            let frame = shape(sides[2], sides[3], (pars[2], pars[3]));
            if let Some(place) = picture.within(&frame) {
                prop_assert!(place.x >= 0.0 && place.right() <= f64::from(frame.width));
                prop_assert!(place.y >= 0.0 && place.bottom() <= f64::from(frame.height));
            }
        }
    }
}
