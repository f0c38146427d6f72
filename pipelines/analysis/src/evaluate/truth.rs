//! Manual labels: who is where on which frame.

use std::collections::{HashMap, HashSet};
use std::io::BufRead;

use anyhow::{Context, Result, bail, ensure};
use face_meta::geometry::Rect;
use face_meta::names;

use super::{cvat, mot};

/// Frames beyond this are a mistake, or an attempt to keep the program busy: four days of video.
pub const LAST_FRAME: u64 = 10_000_000;
/// More boxes than this, including interpolated ones, are refused.
const MOST_BOXES: u64 = 100_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gender {
    Female,
    Male,
}

impl Gender {
    /// In the spelling of people and facemetajson; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_lowercase().as_str() {
            "female" | "f" | "woman" | "w" => Some(Self::Female),
            "male" | "m" | "man" => Some(Self::Male),
            _ => None,
        }
    }
}

/// An expression, in the spelling of the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expression {
    Neutral,
    Happy,
    Sad,
    Angry,
    Fearful,
    Disgusted,
    Surprised,
}

impl Expression {
    /// In the spelling of people and of the models; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim().to_lowercase().as_str() {
            "neutral" => Some(Self::Neutral),
            "happy" | "happiness" | "smile" => Some(Self::Happy),
            "sad" | "sadness" => Some(Self::Sad),
            "angry" | "anger" => Some(Self::Angry),
            "fearful" | "fear" | "afraid" => Some(Self::Fearful),
            "disgusted" | "disgust" => Some(Self::Disgusted),
            "surprised" | "surprise" => Some(Self::Surprised),
            _ => None,
        }
    }
}

/// A box that stays, moves or grows evenly over the frames `first..=last`.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// An index into [`Truth::tracks`].
    pub track: u32,
    pub first: u64,
    pub last: u64,
    /// On the first frame, in pixels from the upper left corner.
    pub rect: Rect,
    /// Added to each number with every further frame.
    pub change: Rect,
    pub age: Option<f64>,
    pub gender: Option<Gender>,
    pub expression: Option<Expression>,
}

/// A box on one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Labelled {
    pub track: usize,
    pub person: usize,
    pub rect: Rect,
    pub age: Option<f64>,
    pub gender: Option<Gender>,
    pub expression: Option<Expression>,
}

#[derive(Debug, Default, PartialEq)]
pub struct Truth {
    /// The names of the labelled people, without duplicates.
    pub people: Vec<String>,
    /// The person of each labelled track, as an index into `people`.
    pub tracks: Vec<usize>,
    /// Ordered by their first frames, then by their tracks.
    segments: Vec<Segment>,
    /// The last frame with a label; at most [`LAST_FRAME`].
    pub end: u64,
    /// The labelled frames: this range, and in it only every `step`-th frame.
    pub first: u64,
    /// `None` if the end of the labelling is unknown.
    pub last: Option<u64>,
    pub step: u64,
    /// The size of the labelled picture, in pixels.
    pub size: Option<(f64, f64)>,
    /// Labels that were given names and do not occur.
    pub unused: Vec<String>,
    /// The number of skipped shapes that are not boxes.
    pub other_shapes: u64,
}

impl Truth {
    /// Reads CVAT for video XML 1.1 or MOTChallenge text, and detects which one it is. `names`
    /// turns labels and ids into names. Errors name the line.
    pub fn read(mut input: impl BufRead, names: &HashMap<String, String>) -> Result<Self> {
        let start = input.fill_buf().context("it cannot be read")?;
        ensure!(
            !start.starts_with(b"PK\x03\x04"),
            "it is a ZIP archive; unpack it and name the annotations.xml or gt.txt inside"
        );
        let text = start.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(start);
        if text.trim_ascii_start().first() == Some(&b'<') {
            cvat::read(input, names)
        } else {
            mot::read(input, names)
        }
    }

    /// Whether a frame was labelled, so that a result can be right or wrong on it.
    pub fn covers(&self, frame: u64) -> bool {
        frame >= self.first
            && self.last.is_none_or(|last| frame <= last)
            && (frame - self.first).is_multiple_of(self.step)
    }

    pub fn sweep(&self) -> Sweep<'_> {
        Sweep {
            truth: self,
            next: 0,
            active: Vec::new(),
        }
    }
}

/// Assembles a [`Truth`] track by track.
pub struct Builder<'a> {
    names: &'a HashMap<String, String>,
    used: HashSet<&'a str>,
    people: HashMap<String, usize>,
    boxes: u64,
    pub truth: Truth,
}

impl<'a> Builder<'a> {
    pub fn new(names: &'a HashMap<String, String>) -> Self {
        let truth = Truth {
            step: 1,
            ..Default::default()
        };
        Self {
            names,
            used: HashSet::new(),
            people: HashMap::new(),
            boxes: 0,
            truth,
        }
    }

    /// Adds a track of the person with this label. Returns its number.
    pub fn add_track(&mut self, label: &str) -> u32 {
        let label = &*names::normal(label);
        let name = match self.names.get_key_value(label) {
            Some((label, name)) => {
                self.used.insert(label);
                name
            }
            None => label,
        };
        let people = &mut self.truth.people;
        let person = *self.people.entry(name.to_owned()).or_insert_with(|| {
            people.push(name.to_owned());
            people.len() - 1
        });
        self.truth.tracks.push(person);
        // Every track takes a few bytes of a file, so four thousand million do not fit into one.
        (self.truth.tracks.len() - 1) as u32
    }

    pub fn add(&mut self, segment: Segment) -> Result<()> {
        ensure!(
            segment.last <= LAST_FRAME,
            "frame {} is beyond the last one possible, {LAST_FRAME}",
            segment.last
        );
        self.boxes += segment.last - segment.first + 1;
        ensure!(
            self.boxes <= MOST_BOXES,
            "more than {MOST_BOXES} boxes are labelled"
        );
        self.truth.end = self.truth.end.max(segment.last);
        self.truth.segments.push(segment);
        Ok(())
    }

    pub fn finish(mut self) -> Result<Truth> {
        let truth = &mut self.truth;
        if truth.segments.is_empty() {
            bail!("it contains no labelled box");
        }
        let labels = self.names.keys().map(String::as_str);
        let unused = labels.filter(|label| !self.used.contains(label));
        truth.unused = unused.map(str::to_owned).collect();
        truth.unused.sort_unstable();
        truth.segments.sort_by_key(|s| (s.first, s.track));
        // A label outside the announced range counts nevertheless.
        truth.first = truth.first.min(truth.segments[0].first);
        truth.last = truth.last.map(|last| last.max(truth.end));
        Ok(self.truth)
    }
}

/// Goes through the labels frame by frame, in ascending order.
pub struct Sweep<'a> {
    truth: &'a Truth,
    next: usize,
    /// Indices of segments that have begun. Ended ones may not be removed yet.
    active: Vec<usize>,
}

impl Sweep<'_> {
    /// Puts the labels on `frame` into `labels`, ordered by track.
    pub fn at(&mut self, frame: u64, labels: &mut Vec<Labelled>) {
        let segments = &self.truth.segments;
        while segments.get(self.next).is_some_and(|s| s.first <= frame) {
            self.active.push(self.next);
            self.next += 1;
        }
        self.active.retain(|&i| segments[i].last >= frame);
        labels.clear();
        labels.extend(self.active.iter().map(|&i| {
            let s = &segments[i];
            let steps = (frame - s.first) as f64;
            let track = s.track as usize;
            Labelled {
                track,
                person: self.truth.tracks[track],
                rect: Rect::new(
                    s.rect.x + steps * s.change.x,
                    s.rect.y + steps * s.change.y,
                    s.rect.w + steps * s.change.w,
                    s.rect.h + steps * s.change.h,
                ),
                age: s.age,
                gender: s.gender,
                expression: s.expression,
            }
        }));
        labels.sort_by_key(|l| l.track);
    }
}

/// Reads `LABEL=NAME` lines, both in the normal form of names. Empty lines and those that start with `#` are ignored.
pub fn read_names(text: &str) -> Result<HashMap<String, String>> {
    let mut named = HashMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let pair = line
            .rsplit_once('=')
            .map(|(label, name)| (names::normal(label), names::normal(name)))
            .filter(|(label, name)| !label.is_empty() && !name.is_empty());
        let Some((label, name)) = pair else {
            bail!("line {}: expected LABEL=NAME, not \"{line}\"", i + 1);
        };
        let known = named.insert(label.clone().into_owned(), name.into_owned());
        if known.is_some() {
            bail!("line {}: {label} already has a name", i + 1);
        }
    }
    Ok(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(track: u32, first: u64, last: u64) -> Segment {
        Segment {
            track,
            first,
            last,
            rect: Rect::new(10.0, 20.0, 30.0, 40.0),
            change: Rect::new(1.0, -1.0, 0.5, 0.0),
            age: Some(30.0),
            gender: None,
            expression: None,
        }
    }

    #[test]
    fn a_sweep_finds_what_is_on_each_frame() {
        let names = HashMap::from([("2".to_owned(), "ann".to_owned())]);
        let mut builder = Builder::new(&names);
        for label in ["ann", "1", "2"] {
            builder.add_track(label);
        }
        for s in [segment(2, 0, 4), segment(0, 2, 3), segment(1, 7, 7)] {
            builder.add(s).expect("small");
        }
        let truth = builder.finish().expect("boxes");
        assert_eq!((truth.people.len(), &truth.tracks), (2, &vec![0, 1, 0]));
        let mut sweep = truth.sweep();
        let mut labels = Vec::new();
        sweep.at(2, &mut labels);
        assert_eq!(
            labels.iter().map(|l| l.track).collect::<Vec<_>>(),
            [0, 2],
            "by track"
        );
        assert_eq!(labels[1].rect, Rect::new(12.0, 18.0, 31.0, 40.0));
        sweep.at(6, &mut labels);
        assert!(labels.is_empty());
        sweep.at(7, &mut labels);
        assert_eq!(labels.len(), 1);
        assert_eq!((truth.end, truth.covers(100)), (7, true));
    }

    #[test]
    fn what_would_take_for_ever_is_refused() {
        let names = HashMap::new();
        let mut builder = Builder::new(&names);
        builder.add_track("a");
        let error = builder.add(segment(0, 0, 1 << 40)).expect_err("too late");
        assert!(error.to_string().contains("beyond"), "{error}");
        let error = (0..20)
            .find_map(|_| builder.add(segment(0, 0, LAST_FRAME)).err())
            .expect("too many");
        assert!(error.to_string().contains("more than"), "{error}");
        assert!(Builder::new(&names).finish().is_err(), "nothing labelled");
    }

    #[test]
    fn names_are_read_line_by_line() {
        let names = read_names("# ids\n1 = ann\n\na=b=bob smith\n").expect("valid");
        assert_eq!(names["1"], "ann");
        assert_eq!(names["a=b"], "bob smith");
        for (text, what) in [
            ("1 ann", "line 1: expected"),
            ("1=a\n1=b", "line 2: 1 already has"),
            ("=a", "line 1"),
        ] {
            let error = read_names(text).expect_err("broken").to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    #[test]
    fn two_forms_of_a_label_are_one_person() {
        let names = read_names("Jose\u{301} = Pepe\n1 = Zoe\u{308}").expect("valid");
        let mut builder = Builder::new(&names);
        for label in ["Jos\u{e9}", "Jose\u{301}", "1", "Zo\u{eb}"] {
            builder.add_track(label);
        }
        assert_eq!(builder.truth.people, ["Pepe", "Zo\u{eb}"]);
        builder.add(segment(0, 0, 1)).expect("small");
        assert!(builder.finish().expect("a box").unused.is_empty());
        let mut builder = Builder::new(&names);
        builder.add_track("1");
        builder.add(segment(0, 0, 1)).expect("small");
        assert_eq!(builder.finish().expect("a box").unused, ["Jos\u{e9}"]);
        assert!(read_names("Jose\u{301}=a\nJos\u{e9}=b").is_err());
    }

    #[test]
    fn an_archive_is_no_truth() {
        let error = Truth::read(&b"PK\x03\x04..."[..], &HashMap::new()).expect_err("a ZIP");
        assert!(error.to_string().contains("unpack"), "{error}");
    }
}
