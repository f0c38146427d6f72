//! The properties.

use std::path::{Path, PathBuf};

use face_meta::names;
use gst::prelude::*;

use super::selection::Selection;
use super::timeline;
use super::{Mode, Shape, Target};

pub const MILLISECOND: u64 = 1_000_000;
/// The longest time that the properties allow, in ms.
const LONGEST_TIME: u32 = 60_000;

#[derive(Clone)]
pub struct Settings {
    pub mode: Mode,
    pub shape: Shape,
    pub selection: Selection,
    pub color: u32,
    pub picture: Option<PathBuf>,
    pub strength: f64,
    pub margin: f64,
    pub times: timeline::Params,
    /// Counts changes of the cover.
    pub serial: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            shape: Shape::default(),
            selection: Selection::default(),
            color: 0xff00_0000,
            picture: None,
            strength: 0.2,
            margin: 0.15,
            times: timeline::Params {
                hold: 500 * MILLISECOND,
                look_back: 0,
            },
            serial: 0,
        }
    }
}

impl Settings {
    pub fn properties() -> Vec<glib::ParamSpec> {
        let default = Settings::default();
        let milliseconds = |name: &str, nick: &str, blurb: &str, default: u64| {
            glib::ParamSpecUInt::builder(name)
                .nick(nick)
                .blurb(blurb)
                .maximum(LONGEST_TIME)
                .default_value((default / MILLISECOND) as u32)
                .mutable_playing()
                .build()
        };
        let share = |name: &str, nick: &str, blurb: &str, least: f64, most: f64, default| {
            glib::ParamSpecDouble::builder(name)
                .nick(nick)
                .blurb(blurb)
                .minimum(least)
                .maximum(most)
                .default_value(default)
                .mutable_playing()
                .build()
        };
        vec![
            glib::ParamSpecEnum::builder_with_default("mode", Mode::default())
                .nick("Mode")
                .blurb("How faces are hidden")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("target", Target::default())
                .nick("Target")
                .blurb("Whose faces are hidden")
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("names")
                .nick("Names")
                .blurb(
                    "target=named, all-but-named: the people, separated by commas; a name with a \
                         comma stands in quotes: 'Doe, Jane'; empty = everybody with a name",
                )
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("unknown-label")
                .nick("Unknown label")
                .blurb("The recogniser's name for faces that match nobody in its gallery")
                .default_value(default.selection.unknown_label.as_str())
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("shape", Shape::default())
                .nick("Shape")
                .blurb("The shape that hides a face")
                .mutable_playing()
                .build(),
            share(
                "margin",
                "Margin",
                "How much more is hidden on each side of the box, as a share of its width or \
                     height",
                0.0,
                2.0,
                default.margin,
            ),
            share(
                "strength",
                "Strength",
                "mode=blur: the blur's standard deviation, mode=pixelate: the side of a \
                     block, as a share of the longer side of the hidden region",
                0.02,
                1.0,
                default.strength,
            ),
            glib::ParamSpecUInt::builder("color")
                .nick("Colour")
                .blurb(
                    "mode=fill: the colour, 0xAARRGGBB; a translucent colour shows the face \
                         blurred",
                )
                .default_value(default.color)
                .mutable_playing()
                .build(),
            glib::ParamSpecString::builder("picture")
                .nick("Picture")
                .blurb(
                    "mode=picture: an image file, stretched over the face; where it is \
                         transparent, the face shows blurred",
                )
                .mutable_playing()
                .build(),
            milliseconds(
                "hold",
                "Hold",
                "How long a face stays hidden at its last position once it is no longer \
                     reported (ms of stream time)",
                default.times.hold,
            ),
            milliseconds(
                "look-back",
                "Look back",
                "How long before its first detection a face is already hidden; delays the stream by \
                     as much (ms of stream time)",
                default.times.look_back,
            ),
        ]
    }

    /// Sets one of [`properties`](Self::properties). Returns `false` if `name` is not one of them.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> bool {
        // GObject has checked type and range, so the fall-backs are never used.
        let number = || value.get::<f64>().unwrap_or_default();
        let nanoseconds = || u64::from(value.get::<u32>().unwrap_or_default()) * MILLISECOND;
        let text = || value.get::<Option<String>>().ok().flatten();
        match name {
            "mode" => self.mode = value.get().unwrap_or_default(),
            "target" => self.selection.target = value.get().unwrap_or_default(),
            "names" => {
                self.selection.names = names::list(&text().unwrap_or_default());
            }
            "unknown-label" => {
                let default = || Selection::default().unknown_label;
                self.selection.unknown_label = text().unwrap_or_else(default);
            }
            "shape" => self.shape = value.get().unwrap_or_default(),
            "margin" => self.margin = number(),
            "strength" => self.strength = number(),
            "color" => self.color = value.get().unwrap_or_default(),
            "picture" => {
                self.picture = text().filter(|path| !path.is_empty()).map(PathBuf::from);
            }
            "hold" => self.times.hold = nanoseconds(),
            "look-back" => self.times.look_back = nanoseconds(),
            _ => return false,
        }
        if matches!(name, "mode" | "color" | "picture") {
            self.serial += 1;
        }
        true
    }

    /// The value of one of [`properties`](Self::properties).
    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let milliseconds = |time: u64| ((time / MILLISECOND) as u32).to_value();
        Some(match name {
            "mode" => self.mode.to_value(),
            "target" => self.selection.target.to_value(),
            "names" => self.selection.names_text().to_value(),
            "unknown-label" => self.selection.unknown_label.to_value(),
            "shape" => self.shape.to_value(),
            "margin" => self.margin.to_value(),
            "strength" => self.strength.to_value(),
            "color" => self.color.to_value(),
            "picture" => self.picture.as_deref().and_then(Path::to_str).to_value(),
            "hold" => milliseconds(self.times.hold),
            "look-back" => milliseconds(self.times.look_back),
            _ => return None,
        })
    }
}
