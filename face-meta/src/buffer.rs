//! A face as buffer metadata. No other code reads or writes it.
//!
//! The place of a face is a [`VideoRegionOfInterestMeta`] of type `face`, in whole pixels and
//! clipped to the frame. Converters and scalers move it with the picture and keep its `id`. All
//! else that is known of the face is in the field `face-<id>` of one custom meta per buffer,
//! `GstFaceMeta`, which every element copies unchanged. (The region's own `params` would be the
//! natural place, but `videoconvert` and `videoscale` drop them.)
//!
//! The box and the landmarks in that field are relative to the region, so they stay right wherever
//! the region does. [`Shape`] says where it may not.

use std::collections::{HashMap, HashSet};
use std::sync::Once;

use gst::meta::CustomMeta;
use gst_video::VideoRegionOfInterestMeta;

use crate::geometry::{Landmarks, Point, Rect};
use crate::pose::Pose;

mod shape;

pub use shape::{Shape, has_lost_regions, regions_follow, set_shape, shape};

/// The name of the custom meta.
pub const META_NAME: &str = "GstFaceMeta";
/// The `roi_type` of a face's region.
pub const ROI_TYPE: &str = "face";

/// The track that a face belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Track {
    /// Never reused while the tracker lives.
    pub id: u64,
    /// Presentation time (PTS) of the frame on which the face was first detected, in nanoseconds.
    pub first_seen: u64,
    /// Whether the box is predicted, not detected.
    pub predicted: bool,
}

/// The identity of a face.
#[derive(Debug, Clone, PartialEq)]
pub struct Recognition {
    pub name: String,
    /// The probability that the name is right, 0..=1.
    pub confidence: f64,
    /// Cosine distance to the nearest gallery row of that person, 0..=2.
    pub distance: f64,
}

/// A label with its probability, 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct Gender {
    pub label: String,
    pub confidence: f64,
}

/// How well a face can be recognised. All numbers are 0..=1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quality {
    /// What the vote weighs the face by: size, pose, sharpness and the detector's confidence together.
    pub quality: f64,
    /// Near 0 for a blurred face, above 0.9 for a sharp one.
    pub sharpness: f64,
    /// The mean brightness, from black to white.
    pub brightness: f64,
}

/// A facial expression with its probability, 0..=1.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    pub label: String,
    pub confidence: f64,
}

/// A face embedding, L2-normalised.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    pub model: String,
    pub values: Vec<f32>,
    /// Its weight in a vote, 0..=1.
    pub weight: Option<f64>,
}

/// One face of a frame. A field that no stage has written yet is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Face {
    /// The `id` of the face's region, unique on its buffer; 0 before [`add`].
    pub id: i32,
    /// The exact box in pixels of the frame. It may reach beyond the frame.
    pub rect: Rect,
    pub landmarks: Option<Landmarks>,
    pub pose: Option<Pose>,
    pub confidence: Option<f64>,
    /// The name of the detector's model.
    pub model: Option<String>,
    pub track: Option<Track>,
    pub recognition: Option<Recognition>,
    pub quality: Option<Quality>,
    /// Years.
    pub age: Option<f64>,
    pub gender: Option<Gender>,
    pub expression: Option<Expression>,
    pub embedding: Option<Embedding>,
}

impl Face {
    /// Whether a tracker predicted the box. A predicted box need not show a face.
    pub fn is_predicted(&self) -> bool {
        self.track.is_some_and(|t| t.predicted)
    }
}

/// Registers the custom meta. Every function here does so itself.
pub fn register() {
    static REGISTER: Once = Once::new();
    REGISTER.call_once(|| {
        // Another plugin in this process may have registered it already.
        if !CustomMeta::is_registered(META_NAME) {
            CustomMeta::register(META_NAME, &[]);
        }
    });
}

fn field(id: i32) -> String {
    format!("face-{id}")
}

/// The regions of type `face`: id and rectangle.
fn regions(buffer: &gst::BufferRef) -> impl Iterator<Item = (i32, Rect)> + '_ {
    buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .filter(|region| region.roi_type() == ROI_TYPE)
        .map(|region| {
            let (x, y, w, h) = region.rect();
            (
                region.id(),
                Rect::new(x.into(), y.into(), w.into(), h.into()),
            )
        })
}

fn numbers<const N: usize>(entry: &gst::StructureRef, name: &str) -> Option<[f64; N]> {
    let array = entry.get::<gst::ArrayRef>(name).ok()?;
    let values = array.as_slice();
    if values.len() != N {
        return None;
    }
    let mut out = [0.0; N];
    for (out, value) in out.iter_mut().zip(values) {
        *out = value.get::<f64>().ok().filter(|v| v.is_finite())?;
    }
    Some(out)
}

fn number(entry: &gst::StructureRef, name: &str) -> Option<f64> {
    entry.get::<f64>(name).ok().filter(|v| v.is_finite())
}

fn text(entry: &gst::StructureRef, name: &str) -> Option<String> {
    entry.get::<String>(name).ok()
}

fn face(id: i32, region: Rect, entry: Option<&gst::StructureRef>) -> Face {
    let mut face = Face {
        id,
        rect: region,
        ..Default::default()
    };
    let Some(entry) = entry else { return face };
    let absolute = |x: f64, y: f64| Point::new(region.x + x * region.w, region.y + y * region.h);
    if let Some([x, y, w, h]) = numbers(entry, "box") {
        let corner = absolute(x, y);
        let rect = Rect::new(corner.x, corner.y, w * region.w, h * region.h);
        if rect.is_finite() {
            face.rect = rect;
        }
    }
    face.landmarks = numbers::<10>(entry, "landmarks")
        .map(|v| [0, 1, 2, 3, 4].map(|i| absolute(v[2 * i], v[2 * i + 1])))
        .filter(|points| points.iter().all(|p| p.x.is_finite() && p.y.is_finite()));
    face.pose = numbers(entry, "pose").map(Pose::from);
    face.confidence = number(entry, "confidence");
    face.model = text(entry, "model");
    face.track = entry.get::<u64>("track").ok().map(|id| Track {
        id,
        first_seen: entry.get::<u64>("first-seen").unwrap_or(0),
        predicted: entry.get::<bool>("predicted").unwrap_or(false),
    });
    face.recognition = text(entry, "name").map(|name| Recognition {
        name,
        confidence: number(entry, "name-confidence").unwrap_or(0.0),
        distance: number(entry, "distance").unwrap_or(2.0),
    });
    let share = |name| number(entry, name).filter(|share| (0.0..=1.0).contains(share));
    face.quality = share("quality").map(|quality| Quality {
        quality,
        sharpness: share("sharpness").unwrap_or(0.0),
        brightness: share("brightness").unwrap_or(0.0),
    });
    face.age = number(entry, "age");
    face.gender = text(entry, "gender").map(|label| Gender {
        label,
        confidence: number(entry, "gender-confidence").unwrap_or(0.0),
    });
    face.expression = text(entry, "expression").map(|label| Expression {
        label,
        confidence: number(entry, "expression-confidence").unwrap_or(0.0),
    });
    face.embedding = text(entry, "embedding-model").and_then(|model| {
        let bytes = entry.get::<glib::Bytes>("embedding").ok()?;
        let (chunks, rest) = bytes.as_chunks::<4>();
        rest.is_empty().then(|| Embedding {
            model,
            values: chunks.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            weight: number(entry, "embedding-weight").filter(|w| (0.0..=1.0).contains(w)),
        })
    });
    face
}

/// Sets a string. GLib's strings end at the first NUL, and its bindings panic on one.
fn set_text(entry: &mut gst::StructureRef, name: &str, text: &str) {
    entry.set(name, text.replace('\0', ""));
}

fn entry_of(face: &Face, region: &Rect, mut entry: gst::Structure) -> gst::Structure {
    let relative = |p: Point| {
        let (w, h) = (region.w.max(1.0), region.h.max(1.0));
        Point::new((p.x - region.x) / w, (p.y - region.y) / h)
    };
    let corner = relative(Point::new(face.rect.x, face.rect.y));
    let end = relative(Point::new(face.rect.right(), face.rect.bottom()));
    entry.set(
        "box",
        gst::Array::new([corner.x, corner.y, end.x - corner.x, end.y - corner.y]),
    );
    if let Some(landmarks) = &face.landmarks {
        let flat = landmarks.iter().flat_map(|&p| {
            let p = relative(p);
            [p.x, p.y]
        });
        entry.set("landmarks", gst::Array::new(flat));
    }
    if let Some(pose) = face.pose {
        entry.set("pose", gst::Array::new(<[f64; 3]>::from(pose)));
    }
    if let Some(confidence) = face.confidence {
        entry.set("confidence", confidence);
    }
    if let Some(model) = &face.model {
        set_text(&mut entry, "model", model);
    }
    if let Some(track) = &face.track {
        entry.set("track", track.id);
        entry.set("first-seen", track.first_seen);
        entry.set("predicted", track.predicted);
    }
    if let Some(recognition) = &face.recognition {
        set_text(&mut entry, "name", &recognition.name);
        entry.set("name-confidence", recognition.confidence);
        entry.set("distance", recognition.distance);
    }
    if let Some(quality) = face.quality {
        entry.set("quality", quality.quality);
        entry.set("sharpness", quality.sharpness);
        entry.set("brightness", quality.brightness);
    }
    if let Some(age) = face.age {
        entry.set("age", age);
    }
    if let Some(gender) = &face.gender {
        set_text(&mut entry, "gender", &gender.label);
        entry.set("gender-confidence", gender.confidence);
    }
    if let Some(expression) = &face.expression {
        set_text(&mut entry, "expression", &expression.label);
        entry.set("expression-confidence", expression.confidence);
    }
    if let Some(embedding) = &face.embedding {
        let bytes: Vec<u8> = embedding
            .values
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        entry.set("embedding", glib::Bytes::from_owned(bytes));
        set_text(&mut entry, "embedding-model", &embedding.model);
        if let Some(weight) = embedding.weight {
            entry.set("embedding-weight", weight);
        }
    }
    entry
}

/// The faces of a buffer, in the order of their regions.
pub fn read(buffer: &gst::BufferRef) -> Vec<Face> {
    let meta = CustomMeta::from_buffer(buffer, META_NAME).ok();
    let known = meta.as_ref().map(|meta| meta.structure());
    let mut taken = HashSet::new();
    regions(buffer)
        .map(|(id, region)| {
            // If several regions have one id, the first one counts.
            let first = taken.insert(id);
            let entry = known
                .filter(|_| first)
                .and_then(|s| s.get::<gst::Structure>(field(id)).ok());
            face(id, region, entry.as_deref())
        })
        .collect()
}

/// Whether a detector examined this frame: `Some(false)` if its `interval` skipped the frame,
/// `None` if none of our detectors saw it.
pub fn examined(buffer: &gst::BufferRef) -> Option<bool> {
    CustomMeta::from_buffer(buffer, META_NAME)
        .ok()?
        .structure()
        .get("examined")
        .ok()
}

/// Records whether a detector examined this frame. One of several is enough.
pub fn set_examined(buffer: &mut gst::BufferRef, examined: bool) {
    with_structure(buffer, |structure| {
        let before = structure.get::<bool>("examined").unwrap_or(false);
        structure.set("examined", before || examined);
    });
}

fn with_structure(buffer: &mut gst::BufferRef, edit: impl FnOnce(&mut gst::StructureRef)) {
    register();
    if CustomMeta::from_buffer(buffer, META_NAME).is_err() {
        // Fails only if the name is not registered.
        let _ = CustomMeta::add(buffer, META_NAME);
    }
    if let Ok(mut meta) = CustomMeta::from_mut_buffer(buffer, META_NAME) {
        edit(meta.mut_structure());
    }
}

/// The ids of all regions of the buffer, and of all entries, even those whose regions are gone.
fn used_ids(buffer: &gst::BufferRef) -> HashSet<i32> {
    let regions = buffer.iter_meta::<VideoRegionOfInterestMeta>();
    let mut ids: HashSet<i32> = regions.map(|r| r.id()).collect();
    if let Ok(meta) = CustomMeta::from_buffer(buffer, META_NAME) {
        let fields = meta.structure().fields();
        ids.extend(fields.filter_map(|f| f.as_str().strip_prefix("face-")?.parse::<i32>().ok()));
    }
    ids
}

/// Ids above all in `used`, or the lowest free ones if a foreign element took the very last.
fn free_ids(used: &HashSet<i32>) -> impl Iterator<Item = i32> {
    let highest = used.iter().copied().max().unwrap_or(0).max(0);
    // A buffer has far fewer regions than there are ids.
    let low = (1..=i32::MAX).filter(move |id| *id < highest && !used.contains(id));
    (highest..=i32::MAX).skip(1).chain(low)
}

/// Reads the faces, after giving a new id to each `face` region of a foreign element whose id is
/// not usable. A usable id is positive and unique among all regions of the buffer.
pub fn claim(buffer: &mut gst::BufferRef) -> Vec<Face> {
    let used = used_ids(buffer);
    let mut free = free_ids(&used);
    let mut taken: HashSet<i32> = buffer
        .iter_meta::<VideoRegionOfInterestMeta>()
        .filter(|r| r.roi_type() != ROI_TYPE)
        .map(|r| r.id())
        .collect();
    for mut region in buffer.iter_meta_mut::<VideoRegionOfInterestMeta>() {
        if region.roi_type() != ROI_TYPE {
            continue;
        }
        if region.id() <= 0 || taken.contains(&region.id()) {
            region.set_id(free.next().unwrap_or(i32::MAX));
        }
        taken.insert(region.id());
    }
    read(buffer)
}

/// `rect` in whole pixels, clipped to the frame; `None` if it lies outside. The corners are moved
/// outwards to even pixels: scalers round a region's numbers down, so this loses nothing on the way
/// to half the size.
fn clipped(rect: &Rect, (width, height): (u32, u32)) -> Option<(u32, u32, u32, u32)> {
    let frame = Rect::new(0.0, 0.0, width.into(), height.into());
    let inside = rect.intersection(&frame);
    if !rect.is_finite() || inside.area() == 0.0 {
        return None;
    }
    let (x0, y0) = (inside.x as u32 & !1, inside.y as u32 & !1);
    let end = |value: f64, limit: u32| (value.ceil() as u32).next_multiple_of(2).min(limit);
    let (x1, y1) = (end(inside.right(), width), end(inside.bottom(), height));
    Some((x0, y0, x1 - x0, y1 - y0))
}

/// Adds a face to a frame of `size` (width, height) and returns its id; `None` if the face lies
/// outside the frame.
pub fn add(buffer: &mut gst::BufferRef, size: (u32, u32), face: &Face) -> Option<i32> {
    let region = clipped(&face.rect, size)?;
    let id = free_ids(&used_ids(buffer)).next().unwrap_or(i32::MAX);
    VideoRegionOfInterestMeta::add(buffer, ROI_TYPE, region).set_id(id);
    let region = Rect::new(
        region.0.into(),
        region.1.into(),
        region.2.into(),
        region.3.into(),
    );
    with_structure(buffer, |structure| {
        structure.set(
            field(id),
            entry_of(face, &region, gst::Structure::new_empty(field(id))),
        );
    });
    Some(id)
}

/// Writes the fields of faces that [`claim`] or [`read`] returned, matched by id. Fields that this
/// code does not know are kept.
pub fn update(buffer: &mut gst::BufferRef, faces: &[Face]) {
    if faces.is_empty() {
        return;
    }
    // If several regions have one id, the first one counts.
    let mut by_id = HashMap::new();
    for (id, region) in regions(buffer) {
        by_id.entry(id).or_insert(region);
    }
    with_structure(buffer, |structure| {
        for face in faces {
            let Some(region) = by_id.get(&face.id) else {
                continue;
            };
            let name = field(face.id);
            let entry = structure
                .get::<gst::Structure>(&name)
                .unwrap_or_else(|_| gst::Structure::new_empty(&name));
            structure.set(&name, entry_of(face, region, entry));
        }
    });
}

#[cfg(test)]
mod tests;
