use std::sync::LazyLock;

use face_core::image::PixelShape;
use face_core::{element, frame};
use face_meta::Face;
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::base_transform::GenerateOutputSuccess;
use gst_base::subclass::prelude::*;
use gst_video::{VideoOverlayComposition, VideoOverlayCompositionMeta};
use parking_lot::Mutex;

use super::blend::{self, rectangle};
use super::color::{Color, UNTRACKED};
use super::draw::{Mark, Painter};
use super::label::{Label, Parts};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "facemetaoverlay",
        gst::DebugColorFlags::empty(),
        Some("Face metadata as a picture"),
    )
});

/// The caps feature of streams whose buffers may carry an overlay composition.
const COMPOSITION: &glib::GStr = gst_video::CAPS_FEATURE_META_GST_VIDEO_OVERLAY_COMPOSITION;

/// Formats that can be blended into.
static BLENDABLE: LazyLock<gst::Caps> = LazyLock::new(|| {
    let mut caps = element::pixel_caps();
    caps.make_mut().mark_may_be_leaked();
    caps
});

#[derive(Debug, Clone)]
struct Settings {
    parts: Parts,
    outline: bool,
    landmarks: bool,
    predicted: bool,
    font: String,
    scale: f64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            parts: Parts {
                name: true,
                confidence: true,
                age: true,
                gender: true,
                expression: true,
                track: false,
            },
            outline: true,
            landmarks: true,
            predicted: true,
            font: "Sans".into(),
            scale: 1.0,
        }
    }
}

struct Toggle {
    name: &'static str,
    nick: &'static str,
    blurb: &'static str,
    of: fn(&mut Settings) -> &mut bool,
}

const TOGGLES: [Toggle; 9] = [
    Toggle {
        name: "show-box",
        nick: "Show box",
        blurb: "Draw an outline in the colour of the track",
        of: |s| &mut s.outline,
    },
    Toggle {
        name: "show-name",
        nick: "Show name",
        blurb: "Write the name",
        of: |s| &mut s.parts.name,
    },
    Toggle {
        name: "show-confidence",
        nick: "Show confidence",
        blurb: "Write the confidence of the name, or of the detection if there is no name",
        of: |s| &mut s.parts.confidence,
    },
    Toggle {
        name: "show-age",
        nick: "Show age",
        blurb: "Write the age in years",
        of: |s| &mut s.parts.age,
    },
    Toggle {
        name: "show-gender",
        nick: "Show gender",
        blurb: "Write the gender",
        of: |s| &mut s.parts.gender,
    },
    Toggle {
        name: "show-expression",
        nick: "Show expression",
        blurb: "Write the expression",
        of: |s| &mut s.parts.expression,
    },
    Toggle {
        name: "show-landmarks",
        nick: "Show landmarks",
        blurb: "Draw dots on eyes, nose and mouth corners",
        of: |s| &mut s.landmarks,
    },
    Toggle {
        name: "show-track",
        nick: "Show track",
        blurb: "Write the number of the track",
        of: |s| &mut s.parts.track,
    },
    Toggle {
        name: "show-predicted",
        nick: "Show predicted",
        blurb: "Also draw faces whose box is predicted, not detected, with dashed outlines",
        of: |s| &mut s.predicted,
    },
];

/// Where the drawing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// As metadata on the buffer.
    Meta,
    /// Into the picture.
    Pixels,
    /// Downstream's caps allow the metadata. Its answer to the allocation query decides.
    Ask,
}

struct Stream {
    incaps: gst::Caps,
    outcaps: gst::Caps,
    size: (u32, u32),
    pixels: PixelShape,
    /// `None` for pixels that cannot be accessed.
    info: Option<gst_video::VideoInfo>,
    target: Target,
}

#[derive(Default)]
struct State {
    stream: Option<Stream>,
    painter: Painter,
}

#[derive(Default)]
pub struct FaceMetaOverlay {
    settings: Mutex<Settings>,
    state: Mutex<State>,
    /// Whether downstream's answer to the allocation query did not ask for the metadata.
    declined: Mutex<bool>,
}

fn has_composition(caps: &gst::CapsRef) -> bool {
    caps.features(0).is_some_and(|f| f.contains(COMPOSITION))
}

fn caps_of(structure: &gst::StructureRef, features: gst::CapsFeatures) -> gst::Caps {
    gst::Caps::builder_full()
        .structure_with_features(structure.to_owned(), features)
        .build()
}

/// The possible caps of the other pad. Plain system memory goes with itself or with the composition
/// metadata. Any other memory passes only with the metadata.
fn transform(caps: &gst::CapsRef, direction: gst::PadDirection, declined: bool) -> gst::Caps {
    let (mut with, mut without) = (gst::Caps::new_empty(), gst::Caps::new_empty());
    for (structure, features) in caps.iter_with_features() {
        let caps = caps_of(structure, features.to_owned());
        if features.is_any() {
            with.merge(caps);
            continue;
        }
        let blendable = caps.intersect(&BLENDABLE);
        let composed = features.contains(COMPOSITION);
        if direction == gst::PadDirection::Sink {
            if composed {
                with.merge(caps);
                continue;
            }
            if !declined || blendable.is_empty() {
                let mut features = features.to_owned();
                features.add(COMPOSITION);
                with.merge(caps_of(structure, features));
            }
            without.merge(blendable);
        } else {
            if composed {
                let mut features = features.to_owned();
                features.remove(COMPOSITION);
                without.merge(caps_of(structure, features));
                with.merge(caps);
            } else {
                without.merge(blendable);
            }
        }
    }
    // Preferred caps come first: with the metadata downstream, and a picture without it upstream.
    if direction == gst::PadDirection::Sink {
        with.merge(without);
        with
    } else {
        without.merge(with);
        without
    }
}

impl FaceMetaOverlay {
    fn marks(&self, faces: &[Face], settings: &Settings) -> Vec<Mark> {
        faces
            .iter()
            .filter(|face| settings.predicted || !face.is_predicted())
            .map(|face| Mark {
                rect: face.rect,
                color: face.track.map_or(UNTRACKED, |t| Color::of_track(t.id)),
                predicted: face.is_predicted(),
                outline: settings.outline,
                landmarks: face.landmarks.filter(|_| settings.landmarks),
                label: Label::new(face, settings.parts),
            })
            .collect()
    }

    /// Decides the target, if it is still open.
    fn settle(&self) -> Result<(), gst::FlowError> {
        let (outcaps, incaps, blendable) = {
            let state = self.state.lock();
            match &state.stream {
                Some(s) if s.target == Target::Ask => {
                    (s.outcaps.clone(), s.incaps.clone(), s.info.is_some())
                }
                Some(_) => return Ok(()),
                None => return Err(gst::FlowError::NotNegotiated),
            }
        };
        let obj = self.obj();
        let srcpad = obj.src_pad();
        let mut query = gst::query::Allocation::new(Some(&outcaps), false);
        let answered = srcpad.peer_query(&mut query);
        if !answered && srcpad.pad_flags().contains(gst::PadFlags::FLUSHING) {
            return Err(gst::FlowError::Flushing);
        }
        let wanted = answered
            && query
                .find_allocation_meta::<VideoOverlayCompositionMeta>()
                .is_some();
        let target = if wanted || !blendable || !srcpad.peer_query_accept_caps(&incaps) {
            Target::Meta
        } else {
            Target::Pixels
        };
        gst::debug!(
            CAT,
            imp = self,
            "downstream wants the meta: {wanted}; {target:?}"
        );
        if let Some(stream) = &mut self.state.lock().stream {
            stream.target = target;
        }
        if target == Target::Pixels {
            // Uses plain caps for a plain picture.
            *self.declined.lock() = true;
            obj.reconfigure_src();
            if !obj.reconfigure() {
                return Err(gst::FlowError::NotNegotiated);
            }
        }
        Ok(())
    }

    fn overlay(&self, mut buffer: gst::Buffer) -> Result<gst::Buffer, gst::FlowError> {
        let faces = face_meta::read(&buffer);
        if faces.is_empty() {
            return Ok(buffer);
        }
        let settings = self.settings.lock().clone();
        let marks = self.marks(&faces, &settings);
        let mut state = self.state.lock();
        let State {
            stream: Some(stream),
            painter,
        } = &mut *state
        else {
            return Err(gst::FlowError::NotNegotiated);
        };
        let drawn = match painter.draw(
            stream.size,
            stream.pixels,
            &marks,
            &settings.font,
            settings.scale,
        ) {
            Ok(drawn) => drawn,
            Err(error) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::NoSpaceLeft,
                    ["faces are not drawn: {error}"]
                );
                return Ok(buffer);
            }
        };
        if drawn.is_empty() {
            return Ok(buffer);
        }
        let failed = |error: glib::BoolError| {
            gst::element_imp_error!(self, gst::StreamError::Failed, ("{error}"));
            gst::FlowError::Error
        };
        let writable = buffer.make_mut();
        match &stream.info {
            Some(info) if stream.target == Target::Pixels => {
                let mut frame = frame::map_writable(writable, info).map_err(|error| {
                    element::post(&*self.obj(), &error);
                    gst::FlowError::Error
                })?;
                for overlay in &drawn {
                    blend::blend(&mut frame, overlay).map_err(failed)?;
                }
            }
            _ => {
                let mut all = Vec::with_capacity(drawn.len());
                if let Some(old) = writable.meta_mut::<VideoOverlayCompositionMeta>() {
                    all.extend(old.overlay().iter());
                    // Cannot fail: the metadata is not locked.
                    let _ = old.remove();
                }
                for overlay in &drawn {
                    all.push(rectangle(overlay).map_err(failed)?);
                }
                let composition = VideoOverlayComposition::new(&all).map_err(failed)?;
                VideoOverlayCompositionMeta::add(writable, &composition);
            }
        }
        Ok(buffer)
    }
}

#[glib::object_subclass]
impl ObjectSubclass for FaceMetaOverlay {
    const NAME: &'static str = "GstFaceMetaOverlay";
    type Type = super::FaceMetaOverlay;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for FaceMetaOverlay {
    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            let mut default = Settings::default();
            let mut all: Vec<glib::ParamSpec> = TOGGLES
                .iter()
                .map(|toggle| {
                    glib::ParamSpecBoolean::builder(toggle.name)
                        .nick(toggle.nick)
                        .blurb(toggle.blurb)
                        .default_value(*(toggle.of)(&mut default))
                        .mutable_playing()
                        .build()
                })
                .collect();
            all.push(
                glib::ParamSpecString::builder("font")
                    .nick("Font")
                    .blurb(
                        "Pango description of the font, such as \"Sans Condensed\"; \
                         its size follows the frame and scale",
                    )
                    .default_value(default.font.as_str())
                    .mutable_playing()
                    .build(),
            );
            all.push(
                glib::ParamSpecDouble::builder("scale")
                    .nick("Scale")
                    .blurb("Factor on line width and font size")
                    .minimum(0.25)
                    .maximum(4.0)
                    .default_value(default.scale)
                    .mutable_playing()
                    .build(),
            );
            all
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        match pspec.name() {
            "font" => {
                settings.font = value
                    .get::<Option<String>>()
                    .ok()
                    .flatten()
                    .unwrap_or_else(|| Settings::default().font);
            }
            "scale" => settings.scale = value.get().unwrap_or(settings.scale),
            name => {
                let toggle = TOGGLES.iter().find(|t| t.name == name);
                if let (Some(toggle), Ok(on)) = (toggle, value.get()) {
                    *(toggle.of)(&mut settings) = on;
                }
            }
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        let mut settings = self.settings.lock();
        match pspec.name() {
            "font" => settings.font.to_value(),
            "scale" => settings.scale.to_value(),
            name => TOGGLES
                .iter()
                .find(|t| t.name == name)
                .is_some_and(|t| *(t.of)(&mut settings))
                .to_value(),
        }
    }
}

impl GstObjectImpl for FaceMetaOverlay {}

impl ElementImpl for FaceMetaOverlay {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Face overlay",
                "Filter/Editor/Video",
                "Draws boxes, names, ages and landmarks of the faces in the metadata",
                env!("CARGO_PKG_NAME"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let mut caps = BLENDABLE.clone();
            caps.merge(element::any_video_caps());
            element::pad_templates(&caps)
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for FaceMetaOverlay {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn propose_allocation(
        &self,
        decide_query: Option<&gst::query::Allocation>,
        query: &mut gst::query::Allocation,
    ) -> Result<(), gst::LoggableError> {
        element::propose_allocation(self, decide_query, query, 0)
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.state.lock() = State::default();
        *self.declined.lock() = false;
        Ok(())
    }

    fn transform_caps(
        &self,
        direction: gst::PadDirection,
        caps: &gst::Caps,
        filter: Option<&gst::Caps>,
    ) -> Option<gst::Caps> {
        let other = transform(caps, direction, *self.declined.lock());
        gst::log!(CAT, imp = self, "{direction:?}: {caps} becomes {other}");
        Some(match filter {
            Some(filter) => filter.intersect_with_mode(&other, gst::CapsIntersectMode::First),
            None => other,
        })
    }

    fn set_caps(&self, incaps: &gst::Caps, outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let failed = || gst::loggable_error!(CAT, "no video in {incaps}");
        let structure = incaps.structure(0).ok_or_else(failed)?;
        let side = |name| u32::try_from(structure.get::<i32>(name).ok()?).ok();
        let size = side("width").zip(side("height")).ok_or_else(failed)?;
        let par = structure.get::<gst::Fraction>("pixel-aspect-ratio");
        let pixels = par.map_or(PixelShape::SQUARE, |par| {
            PixelShape::new(par.numer(), par.denom())
        });
        let info = gst_video::VideoInfo::from_caps(incaps)
            .ok()
            .filter(|_| incaps.is_subset(&BLENDABLE));
        let target = if has_composition(incaps) {
            Target::Meta
        } else if has_composition(outcaps) {
            Target::Ask
        } else {
            Target::Pixels
        };
        if target == Target::Pixels && info.is_none() {
            return Err(failed());
        }
        self.state.lock().stream = Some(Stream {
            incaps: incaps.clone(),
            outcaps: outcaps.clone(),
            size,
            pixels,
            info,
            target,
        });
        Ok(())
    }

    fn src_event(&self, event: gst::Event) -> bool {
        if event.type_() == gst::EventType::Reconfigure {
            // Downstream may have been replaced.
            *self.declined.lock() = false;
        }
        self.parent_src_event(event)
    }

    fn generate_output(&self) -> Result<GenerateOutputSuccess, gst::FlowError> {
        if self.queued_buffer().is_none() {
            return Ok(GenerateOutputSuccess::NoOutput);
        }
        self.settle()?;
        match self.take_queued_buffer() {
            Some(buffer) => self.overlay(buffer).map(GenerateOutputSuccess::Buffer),
            None => Ok(GenerateOutputSuccess::NoOutput),
        }
    }

    fn transform_ip(
        &self,
        _buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        // `generate_output` does all the work.
        Err(gst::FlowError::NotSupported)
    }
}

#[cfg(test)]
mod tests;
