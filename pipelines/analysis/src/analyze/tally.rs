//! Evaluates an input in one pass over its lines: when each track was on screen, and what was
//! recognised.

use std::collections::BTreeMap;

use crate::record::{ExpressionSpan, Face, Frame, Line, Times, Track, TrackSummary};

/// Detections of a track at most this far apart, in nanoseconds, form one appearance: a face turned
/// away for a moment is still present.
const BRIDGE: u64 = 500_000_000;

/// A time span on screen, in nanoseconds as a player shows them: the first and the last frame with a
/// detection, and when the last one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub first: u64,
    pub last: u64,
    pub end: u64,
}

/// The number of nanoseconds covered by at least one of `spans`.
pub fn covered<'a>(spans: impl IntoIterator<Item = &'a Span>) -> u64 {
    let mut spans: Vec<_> = spans.into_iter().map(|s| (s.first, s.end)).collect();
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (first, end) in spans {
        sum += end.saturating_sub(first.max(reached));
        reached = reached.max(end);
    }
    sum
}

/// A track with everything known about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WholeTrack {
    pub summary: TrackSummary,
    pub spans: Vec<Span>,
}

/// An input as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overview {
    /// Of the first frame.
    pub width: u32,
    pub height: u32,
    pub frames: u64,
    pub duration_ns: u64,
    /// In the order of their ids.
    pub tracks: Vec<WholeTrack>,
}

/// Accumulates lines.
#[derive(Debug, Default)]
pub struct Tally {
    size: Option<(u32, u32)>,
    frames: u64,
    /// The first and the last time.
    first: Option<u64>,
    last: Option<u64>,
    /// The duration of the frame before the last one.
    step: u64,
    tracks: BTreeMap<u64, Tracked>,
    /// The tracks detected on the last frame, whose spans end with that frame.
    open: Vec<u64>,
}

#[derive(Debug, Default)]
struct Tracked {
    line: Option<Track>,
    spans: Vec<Span>,
    /// The times of the first and the last detection.
    first: Times,
    last: Times,
    detected: u64,
    /// The latest name and its distance.
    distance: Option<(String, f64)>,
    ages: Mean,
    /// The probability that the person is female.
    female: Mean,
    expressions: Vec<ExpressionSpan>,
}

/// A weighted mean.
#[derive(Debug, Default)]
pub struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    pub fn add(&mut self, value: f64, weight: f64) {
        if value.is_finite() {
            self.sum += weight * value;
            self.weight += weight;
        }
    }

    pub fn value(&self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

/// The probability that a gender is female.
pub fn female(gender: &Option<String>, confidence: Option<f64>) -> Option<f64> {
    match (gender.as_deref()?, confidence?) {
        ("female", confidence) => Some(confidence),
        (_, confidence) => Some(1.0 - confidence),
    }
}

/// The gender and its confidence for a probability of female.
pub fn gender(female: f64) -> (String, f64) {
    match female >= 0.5 {
        true => ("female".into(), fine(female)),
        false => ("male".into(), fine(1.0 - female)),
    }
}

/// Rounds years and pixels to one decimal, as in the lines.
pub fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Rounds shares and distances to four decimals, as in the lines.
pub fn fine(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

impl Tally {
    pub fn add(&mut self, line: &Line) {
        match line {
            Line::Frame(frame) => self.frame(frame),
            Line::Track(track) => {
                self.tracks.entry(track.track).or_default().line = Some(track.clone());
            }
        }
    }

    fn frame(&mut self, frame: &Frame) {
        self.frames += 1;
        self.size.get_or_insert((frame.width, frame.height));
        let times = frame.times();
        if let Some(time) = times.shown() {
            self.advance(time);
        }
        for face in &frame.faces {
            let Some(id) = face.track else { continue };
            let track = self.tracks.entry(id).or_default();
            if let (Some(name), Some(distance)) = (&face.name, face.distance) {
                track.distance = Some((name.clone(), distance));
            }
            if face.predicted {
                continue;
            }
            track.estimate(face);
            track.detected += 1;
            track.first = track.first.or(times);
            track.last = times.or(track.last);
            if let Some(time) = times.shown() {
                track.seen_at(time, BRIDGE);
                track.express(face.expression.as_deref(), time);
                self.open.push(id);
            }
        }
    }

    /// Ends the last frame where the one at `time` begins.
    fn advance(&mut self, time: u64) {
        if let Some(step) = self.last.and_then(|last| time.checked_sub(last))
            && step > 0
        {
            self.step = step;
        }
        self.close(time);
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(time);
    }

    fn close(&mut self, time: u64) {
        for id in self.open.drain(..) {
            if let Some(span) = self.tracks.get_mut(&id).and_then(|t| t.spans.last_mut()) {
                span.end = span.end.max(time);
            }
        }
    }

    /// Returns the results. Detection ran on one in `interval` frames. With `each_frame`, age and
    /// gender in the lines belong to single frames, and their means to the track.
    pub fn finish(mut self, interval: u32, each_frame: bool) -> Overview {
        // The last frame is assumed to last as long as the one before it.
        let end = self.last.map_or(0, |last| last + self.step);
        self.close(end);
        let bridge = BRIDGE.max(u64::from(interval) * self.step * 3 / 2);
        let (width, height) = self.size.unwrap_or_default();
        Overview {
            width,
            height,
            frames: self.frames,
            duration_ns: end.saturating_sub(self.first.unwrap_or(0)),
            tracks: self
                .tracks
                .into_iter()
                .map(|(id, track)| track.finish(id, bridge, each_frame))
                .collect(),
        }
    }
}

impl Tracked {
    fn estimate(&mut self, face: &Face) {
        if let Some(age) = face.age {
            self.ages.add(age, 1.0);
        }
        if let Some(female) = female(&face.gender, face.gender_confidence) {
            self.female.add(female, 1.0);
        }
    }

    /// Continues the expression of the frame before, or begins another.
    fn express(&mut self, expression: Option<&str>, time: u64) {
        let Some(expression) = expression else { return };
        if let Some(last) = self.expressions.last_mut() {
            let near = time >= last.last && time - last.last <= BRIDGE;
            if near && last.expression == expression {
                last.last = time;
                return;
            }
        }
        self.expressions.push(ExpressionSpan {
            expression: expression.to_owned(),
            first: time,
            last: time,
        });
    }

    fn seen_at(&mut self, time: u64, bridge: u64) {
        match self.spans.last_mut() {
            Some(span) if time >= span.last && time - span.last <= bridge => {
                span.last = time;
                span.end = span.end.max(time);
            }
            _ => self.spans.push(Span {
                first: time,
                last: time,
                end: time,
            }),
        }
    }

    fn finish(self, id: u64, bridge: u64, each_frame: bool) -> WholeTrack {
        let mut spans: Vec<Span> = Vec::with_capacity(self.spans.len());
        for span in self.spans {
            match spans.last_mut() {
                Some(last) if span.first >= last.last && span.first - last.last <= bridge => {
                    last.last = span.last;
                    last.end = last.end.max(span.end);
                }
                _ => spans.push(span),
            }
        }
        let unfinished = || {
            let track = Track {
                track: id,
                frames: self.detected,
                ..Track::default()
            };
            track.between(self.first, self.last)
        };
        let mut track = self.line.unwrap_or_else(unfinished);
        if each_frame {
            track.age = self.ages.value().map(tenths);
            let gender = self.female.value().map(gender);
            (track.gender, track.gender_confidence) = gender.unzip();
        }
        let distance = self
            .distance
            .filter(|(name, _)| track.name.as_ref() == Some(name));
        WholeTrack {
            summary: TrackSummary {
                person: None,
                distance: distance.map(|(_, distance)| distance),
                screen_time_ns: covered(&spans),
                appearances: spans.iter().map(|s| [s.first, s.last]).collect(),
                expressions: self.expressions,
                thumbnail: None,
                track,
            },
            spans,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn frame(pts: Option<u64>, tracks: &[u64]) -> Line {
        let face = |id: &u64| Face {
            track: Some(*id),
            ..Face::default()
        };
        Line::Frame(Frame {
            pts,
            width: 64,
            height: 36,
            faces: tracks.iter().map(face).collect(),
            ..Frame::default()
        })
    }

    fn tally(lines: &[Line]) -> Overview {
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(line));
        tally.finish(1, false)
    }

    #[test]
    fn an_appearance_bridges_short_gaps_only() {
        let mut lines = Vec::new();
        // 25 frames per second; track 1 is on frames 0 to 9, 15 to 19 and 40 to 49.
        for i in 0..50u64 {
            let on = i < 10 || (15..20).contains(&i) || i >= 40;
            lines.push(frame(Some(i * 40 * MS), if on { &[1] } else { &[] }));
        }
        let seen = tally(&lines);
        assert_eq!((seen.frames, seen.duration_ns), (50, 2000 * MS));
        assert_eq!((seen.width, seen.height), (64, 36));
        let track = &seen.tracks[0].summary;
        let expected = [[0, 760 * MS], [1600 * MS, 1960 * MS]];
        assert_eq!(track.appearances, expected);
        assert_eq!(track.screen_time_ns, 1200 * MS);
        assert_eq!(track.track.first_pts, Some(0));
    }

    #[test]
    fn a_trimmed_video_begins_at_0() {
        let trimmed = |i: u64| {
            let mut line = frame(Some((1377 + 40 * i) * MS), &[1]);
            if let Line::Frame(frame) = &mut line {
                frame.stream_time = Some(40 * i * MS);
            }
            line
        };
        let lines: Vec<Line> = (0..25).map(trimmed).collect();
        let seen = tally(&lines);
        assert_eq!(seen.duration_ns, 1000 * MS);
        let track = &seen.tracks[0];
        assert_eq!(track.summary.appearances, [[0, 960 * MS]]);
        assert_eq!(track.summary.track.first_pts, Some(1377 * MS));
        assert_eq!(track.summary.track.last().shown(), Some(960 * MS));
    }

    #[test]
    fn predicted_faces_are_not_on_screen() {
        let mut line = frame(Some(40 * MS), &[7]);
        if let Line::Frame(frame) = &mut line {
            frame.faces[0].predicted = true;
        }
        let seen = tally(&[frame(Some(0), &[7]), line, frame(Some(80 * MS), &[])]);
        assert_eq!(seen.tracks[0].summary.appearances, [[0, 0]]);
        assert_eq!(seen.tracks[0].summary.screen_time_ns, 40 * MS);
        assert_eq!(seen.tracks[0].summary.track.frames, 1);
    }

    #[test]
    fn frames_that_were_skipped_by_request_are_no_gaps() {
        // One frame per second; detection runs on every fourth.
        let lines: Vec<Line> = (0..13u64)
            .map(|i| frame(Some(i * 1000 * MS), if i % 4 == 0 { &[1] } else { &[] }))
            .collect();
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(line));
        let seen = tally.finish(4, false);
        let track = &seen.tracks[0].summary;
        assert_eq!(track.appearances, [[0, 12_000 * MS]]);
    }

    #[test]
    fn a_picture_an_empty_video_and_missing_times() {
        assert_eq!(tally(&[]), Overview::default());
        let picture = tally(&[frame(Some(0), &[1, 2])]);
        assert_eq!((picture.frames, picture.duration_ns), (1, 0));
        assert_eq!(picture.tracks.len(), 2);
        assert_eq!(picture.tracks[1].summary.appearances, [[0, 0]]);
        let timeless = tally(&[frame(None, &[1]), frame(None, &[1])]);
        assert_eq!((timeless.frames, timeless.duration_ns), (2, 0));
        let track = &timeless.tracks[0].summary;
        assert_eq!((track.appearances.len(), track.screen_time_ns), (0, 0));
        assert_eq!((track.track.first_pts, track.track.frames), (None, 2));
    }

    #[test]
    fn equal_expressions_form_spans() {
        let at = |ms: u64, expression: Option<&str>| {
            let mut line = frame(Some(ms * MS), &[1]);
            if let Line::Frame(frame) = &mut line {
                frame.faces[0].expression = expression.map(String::from);
            }
            line
        };
        let lines = [
            at(0, Some("happy")),
            at(200, Some("happy")),
            at(400, None),
            at(600, Some("happy")),
            at(800, Some("sad")),
            at(2000, Some("sad")),
        ];
        let span = |expression: &str, first: u64, last: u64| ExpressionSpan {
            expression: expression.into(),
            first: first * MS,
            last: last * MS,
        };
        assert_eq!(
            tally(&lines).tracks[0].summary.expressions,
            [
                span("happy", 0, 600),
                span("sad", 800, 800),
                span("sad", 2000, 2000)
            ]
        );
    }

    #[test]
    fn time_that_runs_backwards_does_no_harm() {
        let times = [100, 140, 0, 40].map(|ms| ms * MS);
        let lines: Vec<Line> = times.iter().map(|t| frame(Some(*t), &[1])).collect();
        let seen = tally(&lines);
        assert_eq!(seen.duration_ns, 80 * MS);
        assert!(seen.tracks[0].summary.screen_time_ns <= 180 * MS);
    }

    #[test]
    fn the_track_line_counts_and_single_frames_only_if_asked() {
        let face = |age: f64, gender: &str, confidence: f64| {
            let mut line = frame(Some(0), &[1]);
            if let Line::Frame(frame) = &mut line {
                frame.faces[0].age = Some(age);
                frame.faces[0].gender = Some(gender.into());
                frame.faces[0].gender_confidence = Some(confidence);
            }
            line
        };
        let track = Line::Track(Track {
            track: 1,
            frames: 9,
            age: Some(99.0),
            ..Track::default()
        });
        let lines = [face(20.0, "female", 0.9), face(30.0, "male", 0.6), track];
        assert_eq!(tally(&lines).tracks[0].summary.track.age, Some(99.0));
        let mut tally = Tally::default();
        lines.iter().for_each(|line| tally.add(line));
        let seen = tally.finish(1, true).tracks.remove(0).summary.track;
        assert_eq!((seen.age, seen.frames), (Some(25.0), 9));
        assert_eq!(seen.gender.as_deref(), Some("female"));
        assert_eq!(seen.gender_confidence, Some(0.65));
    }

    #[test]
    fn what_overlaps_is_covered_once() {
        let span = |first, end| Span {
            first,
            last: first,
            end,
        };
        assert_eq!(covered(&[span(5, 9), span(0, 4), span(3, 6)]), 9);
        assert_eq!(covered(&[span(0, 10), span(2, 3)]), 10);
        assert_eq!(covered(&[]), 0);
    }
}
