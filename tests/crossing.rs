//! Videos of people who cross and hide one another, whose truth is known to the pixel: panes with
//! faces from real photographs and clips, moved by `compositor`.

mod actor;
mod cast;
mod walk;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, anyhow, ensure};
use face_meta::geometry::Rect;
use gst::prelude::*;
use gst_controller::prelude::*;

pub use actor::Still;
pub use cast::{Person, of_folder, of_media};
pub use walk::{Key, Manner, Random, Scene, Way};

use actor::{PANE, Pane, Sway};

/// A face on a frame of the made video.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Face {
    /// Index of the person.
    pub person: usize,
    /// How often they had left the picture before.
    pub visit: usize,
    pub rect: Rect,
    /// The part of the box that nobody and nothing hides, 0 to 1.
    pub visible: f64,
}

/// A made video.
#[derive(Clone)]
pub struct Footage {
    /// H.264 in MP4.
    pub video: PathBuf,
    /// MOTChallenge text with one id per person. Faces of which less than [`SEEN`] is visible have
    /// the flag 0.
    pub truth: PathBuf,
    /// The same with another id for each visit of a person: what a tracker can know.
    pub visits: PathBuf,
    /// By frame.
    pub faces: Vec<Vec<Face>>,
}

/// From this visible part on, a face should be found.
pub const SEEN: f64 = 0.5;

/// How long a still sways, in seconds, before it repeats.
const CYCLE: f64 = 2.4;

/// A street, a crowd and other places. `media` has enough people for each.
pub const SCENES: [Scene; 8] = {
    const STREET: Scene = Scene {
        name: "street",
        width: 1280,
        height: 720,
        rate: 25,
        seconds: 16,
        people: 7,
        faces: [46.0, 90.0],
        speed: [1.0, 2.2],
        manner: Manner::Cross,
        pillars: 0,
        noise: 3.0,
        seed: 1,
    };
    [
        STREET,
        Scene {
            name: "pillars",
            pillars: 3,
            people: 5,
            seed: 2,
            ..STREET
        },
        Scene {
            name: "stroll",
            manner: Manner::Stroll,
            people: 6,
            speed: [0.8, 2.5],
            seed: 3,
            ..STREET
        },
        Scene {
            name: "fast",
            speed: [2.5, 5.0],
            people: 6,
            seed: 4,
            ..STREET
        },
        Scene {
            name: "slow-camera",
            rate: 10,
            seed: 5,
            ..STREET
        },
        Scene {
            name: "far",
            faces: [30.0, 44.0],
            people: 9,
            seed: 6,
            ..STREET
        },
        Scene {
            name: "night",
            noise: 14.0,
            rate: 15,
            seed: 7,
            ..STREET
        },
        Scene {
            name: "crowd",
            people: 12,
            faces: [40.0, 100.0],
            seconds: 20,
            seed: 8,
            ..STREET
        },
    ]
};

/// A person in a scene.
struct Actor {
    way: Way,
    /// One list per take: what is shown frame by frame, again and again.
    takes: Vec<Vec<Pane>>,
    z: u32,
    pad: gst::Pad,
    source: gst_app::AppSrc,
}

impl Actor {
    fn pane(&self, frame: usize, rate: u32) -> &Pane {
        let visit = self.way.visit(frame as f64 / f64::from(rate));
        let take = &self.takes[visit % self.takes.len()];
        &take[frame % take.len()]
    }
}

/// Makes a video and its truth in `folder`, as NAME.mp4 and NAME.txt. The first people of `cast` are
/// in it.
///
/// # Errors
/// If the cast is too small, or GStreamer fails.
pub fn make(scene: &Scene, cast: &[Person], folder: &Path) -> Result<Footage> {
    crate::init();
    ensure!(
        cast.len() >= scene.people,
        "the scene {} needs {} people, there are {}",
        scene.name,
        scene.people,
        cast.len()
    );
    let video = folder.join(format!("{}.mp4", scene.name));
    let pipeline = gst::parse::launch(&format!(
        "compositor name=mix background=black ! \
         video/x-raw,format=RGBA,width={},height={},framerate={}/1 ! identity name=mixed ! \
         videoconvert ! x264enc pass=quant quantizer=21 speed-preset=veryfast key-int-max=50 ! \
         mp4mux ! filesink location=\"{}\"",
        scene.width,
        scene.height,
        scene.rate,
        video.display()
    ))?
    .downcast::<gst::Pipeline>()
    .map_err(|_| anyhow!("no pipeline"))?;
    let frames = (scene.seconds * scene.rate) as usize;
    let background = add(&pipeline, scene, 0, (scene.width, scene.height))?;
    let wall = cast::background(scene.width, scene.height)?;
    let mut random = Random::new(scene.seed);
    let mut actors = Vec::new();
    for (i, (way, person)) in scene.ways().into_iter().zip(cast).enumerate() {
        let z = 1 + i as u32;
        let (pad, source) = add(&pipeline, scene, z, PANE)?;
        animate(&pad, &way)?;
        let shade = std::array::from_fn(|_| random.between([30.0, 90.0]) as u8);
        let takes = person.takes.iter();
        let takes = takes.map(|take| panes(take, scene.rate, shade, &mut random));
        actors.push(Actor {
            way,
            takes: takes.collect(),
            z,
            pad,
            source,
        });
    }
    let mut pillars = Vec::new();
    let pillar = (scene.pillar_width() as u32, scene.height);
    for x in scene.pillars() {
        let (pad, source) = add(&pipeline, scene, 1000, pillar)?;
        pad.set_property("xpos", x as i32);
        pillars.push((x as i32, source));
    }

    for frame in 0..frames {
        push(&background.1, &wall, frame, scene.rate)?;
        for (_, source) in &pillars {
            let grey = [86, 80, 74, 255].repeat((pillar.0 * pillar.1) as usize);
            push(source, &gst::Buffer::from_slice(grey), frame, scene.rate)?;
        }
    }
    for actor in &actors {
        let mut shown = std::collections::HashMap::new();
        for frame in 0..frames {
            let pane = actor.pane(frame, scene.rate);
            let pixels = shown
                .entry(std::ptr::from_ref(pane))
                .or_insert_with(|| gst::Buffer::from_slice(pane.pixels.clone()));
            push(&actor.source, pixels, frame, scene.rate)?;
        }
    }
    let sources = actors.iter().map(|actor| &actor.source);
    let sources = sources.chain(pillars.iter().map(|(_, source)| source));
    for source in sources.chain([&background.1]) {
        source.end_of_stream().map_err(|e| anyhow!("{e}"))?;
    }

    let places = Arc::new(Mutex::new(Vec::<Vec<Rect>>::new()));
    let noted = places.clone();
    let pads: Vec<gst::Pad> = actors.iter().map(|actor| actor.pad.clone()).collect();
    let noise = Noise::new(scene);
    let mixed = pipeline.by_name("mixed").context("named above")?;
    let pad = mixed.static_pad("src").context("every identity has one")?;
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let Some(buffer) = info.buffer_mut() else {
            return gst::PadProbeReturn::Ok;
        };
        let mut noted = noted.lock().expect("nobody panics");
        noise.add(buffer, noted.len());
        noted.push(pads.iter().map(place).collect());
        gst::PadProbeReturn::Ok
    });
    let running = crate::Running::of(pipeline)?;
    running.play()?;
    running.wait()?;
    drop(running);

    let places = std::mem::take(&mut *places.lock().expect("nobody panics"));
    ensure!(
        places.len() == frames,
        "{} frames instead of {frames}",
        places.len()
    );
    let walls: Vec<Rect> = pillars
        .iter()
        .map(|(x, _)| Rect::new((*x).into(), 0.0, pillar.0.into(), pillar.1.into()))
        .collect();
    let faces: Vec<Vec<Face>> = places
        .iter()
        .enumerate()
        .map(|(frame, places)| truth(scene, &actors, places, &walls, frame))
        .collect();
    let truth = folder.join(format!("{}.txt", scene.name));
    std::fs::write(&truth, text(&faces, |face| face.person + 1))?;
    let visits = folder.join(format!("{}.visits.txt", scene.name));
    let visit = |face: &Face| 100 * (face.person + 1) + face.visit;
    std::fs::write(&visits, text(&faces, visit))?;
    Ok(Footage {
        video,
        truth,
        visits,
        faces,
    })
}

/// Adds a source of RGBA panes, and its pad of the compositor.
fn add(
    pipeline: &gst::Pipeline,
    scene: &Scene,
    z: u32,
    (width, height): (u32, u32),
) -> Result<(gst::Pad, gst_app::AppSrc)> {
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgba, width, height)
        .fps(gst::Fraction::new(scene.rate as i32, 1))
        .build()?;
    let source = gst_app::AppSrc::builder()
        .caps(&info.to_caps()?)
        .format(gst::Format::Time)
        .max_bytes(0)
        .build();
    pipeline.add(&source)?;
    let mix = pipeline.by_name("mix").context("named in the pipeline")?;
    let pad = mix
        .request_pad_simple("sink_%u")
        .context("a compositor has pads")?;
    pad.set_property("zorder", z);
    source
        .static_pad("src")
        .context("every source has one")?
        .link(&pad)?;
    Ok((pad, source))
}

/// Moves a pad along a way.
fn animate(pad: &gst::Pad, way: &Way) -> Result<()> {
    let scale = |key: &Key| key.face / actor::FACE;
    type Value<'a> = &'a dyn Fn(&Key) -> f64;
    let values: [(&str, Value); 4] = [
        ("xpos", &|key| key.x - actor::MIDDLE.x * scale(key)),
        ("ypos", &|key| key.y - actor::MIDDLE.y * scale(key)),
        ("width", &|key| f64::from(PANE.0) * scale(key)),
        ("height", &|key| f64::from(PANE.1) * scale(key)),
    ];
    // What a way says of a moment, not of keys: times before 0 cannot be set, and nobody glides from
    // one visit to the next.
    let end = way.keys.last().map_or(0.0, |key| key.time.max(0.0));
    let steps = (end * 50.0).ceil() as u64;
    for (name, value) in values {
        let control = gst_controller::InterpolationControlSource::new();
        control.set_mode(gst_controller::InterpolationMode::None);
        for step in 0..=steps {
            let time = gst::ClockTime::from_mseconds(step * 20);
            let key = way.at(step as f64 / 50.0);
            ensure!(
                control.set(time, value(&key).round()),
                "the key frame is refused"
            );
        }
        let binding = gst_controller::DirectControlBinding::new_absolute(pad, name, &control);
        pad.add_control_binding(&binding)?;
    }
    Ok(())
}

fn panes(take: &[Still], rate: u32, shade: [u8; 3], random: &mut Random) -> Vec<Pane> {
    let sway = |angle, light| Sway {
        angle,
        light,
        shade,
    };
    if let [still] = take {
        let count = (CYCLE * f64::from(rate)).round().max(1.0) as usize;
        let (phase, most) = (random.share(), random.between([3.0, 8.0]));
        let wave = |i: usize, speed: f64| {
            (std::f64::consts::TAU * (speed * i as f64 / count as f64 + phase)).sin()
        };
        let sways: Vec<Sway> = (0..count)
            .map(|i| sway(most * wave(i, 1.0), 1.0 + 0.1 * wave(i, 2.0)))
            .collect();
        return still.panes(&sways);
    }
    // A clip of 25 frames per second, forwards and back. The head moves within the pane as it does in
    // the clip; the pane follows slowly.
    let smooth = |i: usize| {
        let near = &take[i.saturating_sub(12)..(i + 13).min(take.len())];
        let count = near.len() as f64;
        let sum = |value: &dyn Fn(&Still) -> f64| near.iter().map(value).sum::<f64>() / count;
        let center = face_meta::geometry::Point::new(
            sum(&|still| still.face.center().x),
            sum(&|still| still.face.center().y),
        );
        (center, sum(&|still| still.face.h))
    };
    let last = take.len() - 1;
    let count = (2 * last) as u64 * u64::from(rate) / 25;
    (0..count)
        .map(|i| {
            let at = (i * 25 / u64::from(rate)) as usize % (2 * last);
            let at = at.min(2 * last - at);
            let (center, height) = smooth(at);
            take[at].pane(center, height, &sway(0.0, 1.0))
        })
        .collect()
}

fn push(source: &gst_app::AppSrc, pixels: &gst::Buffer, frame: usize, rate: u32) -> Result<()> {
    // The memory is shared.
    let mut buffer = pixels.copy();
    let time = |frame: usize| gst::ClockTime::SECOND * frame as u64 / u64::from(rate);
    let writable = buffer.get_mut().context("just made")?;
    writable.set_pts(time(frame));
    writable.set_duration(time(frame + 1) - time(frame));
    source.push_buffer(buffer).map_err(|e| anyhow!("{e}"))?;
    Ok(())
}

/// Where a pad is shown.
fn place(pad: &gst::Pad) -> Rect {
    let value = |name| f64::from(pad.property::<i32>(name));
    Rect::new(
        value("xpos"),
        value("ypos"),
        value("width"),
        value("height"),
    )
}

fn truth(
    scene: &Scene,
    actors: &[Actor],
    places: &[Rect],
    walls: &[Rect],
    frame: usize,
) -> Vec<Face> {
    const GRID: usize = 12;
    let shown: Vec<(&Actor, &Rect, Rect)> = actors
        .iter()
        .zip(places)
        .map(|(actor, place)| {
            let face = actor.pane(frame, scene.rate).face;
            let (sx, sy) = (place.w / f64::from(PANE.0), place.h / f64::from(PANE.1));
            let rect = Rect::new(
                place.x + face.x * sx,
                place.y + face.y * sy,
                face.w * sx,
                face.h * sy,
            );
            (actor, place, rect)
        })
        .collect();
    let inside = |rect: &Rect, x: f64, y: f64| {
        x >= rect.x && x < rect.x + rect.w && y >= rect.y && y < rect.y + rect.h
    };
    let picture = Rect::new(0.0, 0.0, scene.width.into(), scene.height.into());
    let is_visible = |z: u32, x: f64, y: f64| {
        inside(&picture, x, y)
            && !walls.iter().any(|wall| inside(wall, x, y))
            && !shown.iter().any(|(other, place, face)| {
                other.z > z && inside(place, x, y) && actor::covers(face, x, y)
            })
    };
    let mut faces = Vec::new();
    for (person, (actor, _, rect)) in shown.iter().enumerate() {
        let points = (0..GRID * GRID).filter(|i| {
            let share = |i: usize| (i as f64 + 0.5) / GRID as f64;
            let x = rect.x + rect.w * share(i % GRID);
            let y = rect.y + rect.h * share(i / GRID);
            is_visible(actor.z, x, y)
        });
        let visible = points.count() as f64 / (GRID * GRID) as f64;
        if visible > 0.0 {
            faces.push(Face {
                person,
                visit: actor.way.visit(frame as f64 / f64::from(scene.rate)),
                rect: *rect,
                visible,
            });
        }
    }
    faces
}

fn text(faces: &[Vec<Face>], id: impl Fn(&Face) -> usize) -> String {
    let mut text = String::new();
    for (frame, faces) in (1..).zip(faces) {
        for face in faces {
            let Face { rect, visible, .. } = face;
            let flag = u8::from(*visible >= SEEN);
            let (x, y) = (rect.x + 1.0, rect.y + 1.0);
            let _ = writeln!(
                text,
                "{frame},{},{x:.2},{y:.2},{:.2},{:.2},{flag},1,{visible:.3}",
                id(face),
                rect.w,
                rect.h
            );
        }
    }
    text
}

/// The noise of a sensor. Each row of each frame starts elsewhere in one table.
struct Noise {
    table: Vec<i16>,
    seed: u64,
    row: usize,
}

impl Noise {
    fn new(scene: &Scene) -> Self {
        let mut random = Random::new(scene.seed ^ 0x5eed);
        let count = if scene.noise > 0.0 { 1 << 18 } else { 0 };
        let table = (0..count).map(|_| (scene.noise * random.normal()).round() as i16);
        Self {
            table: table.collect(),
            seed: scene.seed,
            row: scene.width as usize * 4,
        }
    }

    fn add(&self, buffer: &mut gst::Buffer, frame: usize) {
        if self.table.is_empty() {
            return;
        }
        let mut random = Random::new(self.seed ^ ((frame as u64 + 1) << 20));
        let Ok(mut map) = buffer.make_mut().map_writable() else {
            return;
        };
        for row in map.chunks_mut(self.row) {
            let start = random.number() as usize % (self.table.len() - row.len());
            for (value, noise) in row.iter_mut().zip(&self.table[start..]) {
                *value = (i16::from(*value) + noise).clamp(0, 255) as u8;
            }
        }
    }
}
