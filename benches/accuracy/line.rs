//! Runs pictures through the elements, on all cores.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use face_core::still;
use face_meta::geometry::Rect;
use face_meta::record;
use face_tests::Running;
use image::RgbImage;
use serde_json::Value;

/// A face as the elements describe it.
#[derive(Debug, Clone)]
pub struct Found {
    pub rect: Rect,
    pub confidence: f64,
    /// Its record as `facemetajson` writes it.
    pub json: Value,
    /// With `attach-embedding`.
    pub embedding: Option<Vec<f32>>,
}

impl Found {
    pub fn number(&self, key: &str) -> Option<f64> {
        self.json[key].as_f64()
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.json[key].as_str()
    }
}

/// Several instances of one line of elements, one per core.
pub struct Lines(Vec<Line>);

struct Line {
    running: Running,
    pushed: u64,
}

pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Lines {
    /// Starts `elements`.
    ///
    /// # Errors
    /// If one of them is missing or does not start.
    pub fn start(elements: &str) -> Result<Self> {
        let line = || {
            let description =
                format!("appsrc name=in format=time ! {elements} ! appsink name=out sync=false");
            let running = Running::new(&description)?;
            running.play()?;
            Ok(Line { running, pushed: 0 })
        };
        let lines: Result<Vec<Line>> = (0..cores()).map(|_| line()).collect();
        lines.map(Self).with_context(|| elements.to_owned())
    }

    /// The faces on each picture.
    pub fn look(&mut self, pictures: &[RgbImage]) -> Result<Vec<Vec<Found>>> {
        let count = self.0.len();
        let parts = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .0
                .iter_mut()
                .enumerate()
                .map(|(i, line)| {
                    let mine = pictures.iter().skip(i).step_by(count);
                    scope.spawn(move || mine.map(|p| line.look(p)).collect::<Result<Vec<_>>>())
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect::<Result<Vec<_>>>()
        })?;
        let mut parts: Vec<_> = parts.into_iter().map(Vec::into_iter).collect();
        let faces = (0..pictures.len()).map(|i| parts[i % count].next());
        faces.map(|f| f.context("a picture is lost")).collect()
    }
}

impl Line {
    fn look(&mut self, picture: &RgbImage) -> Result<Vec<Found>> {
        let (mut buffer, info) = still::frame(picture.as_raw(), picture.dimensions())?;
        // A second between pictures, so that no element takes them for one scene.
        buffer
            .make_mut()
            .set_pts(gst::ClockTime::from_seconds(self.pushed));
        self.pushed += 1;
        let sample = gst::Sample::builder()
            .buffer(&buffer)
            .caps(&info.to_caps()?)
            .build();
        if self.running.source().push_sample(&sample).is_err() {
            self.running.check()?;
        }
        let frame = self.running.next()?.context("the line has ended")?;
        Ok(frame.faces.iter().filter_map(found).collect())
    }
}

fn found(face: &face_meta::Face) -> Option<Found> {
    Some(Found {
        rect: face.rect,
        confidence: face.confidence.unwrap_or(1.0),
        json: serde_json::to_value(record::Face::of(face)?).ok()?,
        embedding: face.embedding.as_ref().map(|e| e.values.clone()),
    })
}

/// Reads pictures, as `facepicturedecoder` and all commands do.
pub fn read(paths: &[PathBuf]) -> Result<Vec<RgbImage>> {
    parallel(paths, |path: &PathBuf| open(path))
        .into_iter()
        .collect()
}

fn open(path: &Path) -> Result<RgbImage> {
    let picture = face_picture::open(path).map_err(|e| anyhow!("{}: {e}", path.display()))?;
    Ok(picture.image)
}

/// The results of `work` in order, on all cores.
pub fn parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let part = items.len().div_ceil(cores()).max(1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = items
            .chunks(part)
            .map(|items| {
                let work = &work;
                scope.spawn(move || items.iter().map(work).collect::<Vec<R>>())
            })
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(results) => results,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.flatten().collect()
    })
}

/// The processor time of this process so far. Unlike a clock on the wall, it counts only our work.
pub fn processor_time() -> Duration {
    // proc(5): user and system time are fields 14 and 15, in ticks of 10 ms. The second field, the
    // program's name, may contain spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<u64>().ok();
    let ticks = ticks(14).unwrap_or(0) + ticks(15).unwrap_or(0);
    Duration::from_millis(10 * ticks)
}

/// The face in the middle: whom a portrait shows.
pub fn middle<'a>(faces: &'a [Found], picture: &RgbImage) -> Option<&'a Found> {
    let center = (
        f64::from(picture.width()) / 2.0,
        f64::from(picture.height()) / 2.0,
    );
    let distance = |face: &Found| {
        let rect = &face.rect;
        (rect.x + rect.w / 2.0 - center.0).hypot(rect.y + rect.h / 2.0 - center.1)
    };
    faces
        .iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
}
