//! Counts right and wrong answers frame by frame. The measures follow from the counts.
//!
//! Correspondences are those of CLEAR MOT (Bernardin and Stiefelhagen, "Evaluating multiple object
//! tracking performance", 2008). A label and the track that it was last matched with stay matched
//! while they overlap enough. The others are matched to give as many pairs as possible, at the
//! smallest total distance (1 - IoU). Without tracks only the second step remains.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Result, ensure};
use face_meta::assignment::assign;
use face_meta::geometry::Rect;
use face_meta::names::normal;

use super::hota::{Collector, Hota};
use super::identity;
use super::truth::{Expression, Gender, Labelled, Sweep, Truth};
use crate::record::Frame;

/// The counts of a person.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tally {
    /// Labelled boxes, and those that were matched with a face.
    pub boxes: u64,
    pub found: u64,
    /// Faces with this name, and those that overlap a box of the person.
    pub named: u64,
    pub named_right: u64,
    /// Labelled boxes overlapped by a face with the right name.
    pub boxes_named: u64,
    /// Matches with a different track than before.
    pub switches: u64,
    /// Frames on which the track assigned to a labelled one over the whole video matches it, and
    /// all frames of those tracks.
    pub id_frames: u64,
    pub id_faces: u64,
    /// The sum of the absolute errors of ages, and their number.
    pub age_error: f64,
    pub ages: u64,
    pub genders_right: u64,
    pub genders: u64,
    pub expressions_right: u64,
    pub expressions: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.boxes += other.boxes;
        self.found += other.found;
        self.named += other.named;
        self.named_right += other.named_right;
        self.boxes_named += other.boxes_named;
        self.switches += other.switches;
        self.id_frames += other.id_frames;
        self.id_faces += other.id_faces;
        self.age_error += other.age_error;
        self.ages += other.ages;
        self.genders_right += other.genders_right;
        self.genders += other.genders;
        self.expressions_right += other.expressions_right;
        self.expressions += other.expressions;
    }
}

/// The result's answer for a label. People are indices into [`Score::people`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    Name(usize),
    /// There is a face, but it has no name, not even that of unknown people.
    NoName,
    NoFace,
}

#[derive(Debug, Default)]
pub struct Score {
    /// The people of the truth in its order, then other names in the result.
    pub people: Vec<String>,
    pub tallies: Vec<Tally>,
    /// Detected faces on labelled frames.
    pub faces: u64,
    /// Faces with a name, and faces with a track.
    pub faces_named: u64,
    pub faces_tracked: u64,
    /// Labelled frames in the result.
    pub frames: u64,
    /// Unlabelled frames of the result. Nothing on them counts.
    pub frames_left_out: u64,
    /// Labelled frames missing from the result. All their labels count as missed.
    pub frames_missing: u64,
    /// How often each answer was given for boxes of each person. `None` stands for faces that
    /// matched no label.
    pub answers: BTreeMap<(Option<usize>, Answer), u64>,
    /// `None` if nothing is labelled.
    pub hota: Option<Hota>,
    /// AssA for each person with matches, by index into `people`.
    pub association: BTreeMap<usize, f64>,
}

impl Score {
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for tally in &self.tallies {
            total.add(tally);
        }
        total
    }
}

/// A face of the result, reduced to what counts here.
struct Found {
    rect: Rect,
    /// An index into `Scorer::tracks`.
    track: Option<usize>,
    name: Option<usize>,
    age: Option<f64>,
    gender: Option<Gender>,
    expression: Option<Expression>,
}

impl Found {
    fn answer(&self) -> Answer {
        self.name.map_or(Answer::NoName, Answer::Name)
    }
}

pub struct Scorer<'a> {
    truth: &'a Truth,
    sweep: Sweep<'a>,
    least_overlap: f64,
    count_predicted: bool,
    score: Score,
    names: HashMap<String, usize>,
    /// The tracks of the result, in order of appearance.
    tracks: HashMap<u64, usize>,
    /// The number of faces of each of them.
    track_faces: Vec<u64>,
    /// For each labelled track, the track that it was last matched with.
    last_match: Vec<Option<usize>>,
    /// The number of frames on which a labelled track and one of the result overlap enough.
    overlaps: HashMap<(u32, u32), u64>,
    hota: Collector,
    /// The first frame not yet examined.
    next: u64,
    labels: Vec<Labelled>,
}

impl<'a> Scorer<'a> {
    /// A face and a label can correspond if their IoU is at least `least_overlap`.
    pub fn new(truth: &'a Truth, least_overlap: f64, count_predicted: bool) -> Self {
        let people = truth.people.clone();
        Self {
            truth,
            sweep: truth.sweep(),
            least_overlap,
            count_predicted,
            names: people.iter().cloned().zip(0..).collect(),
            score: Score {
                tallies: vec![Tally::default(); people.len()],
                people,
                ..Default::default()
            },
            tracks: HashMap::new(),
            track_faces: Vec::new(),
            last_match: vec![None; truth.tracks.len()],
            overlaps: HashMap::new(),
            hota: Collector::default(),
            next: 0,
            labels: Vec::new(),
        }
    }

    /// Adds the next frame of the result.
    pub fn add(&mut self, frame: &Frame) -> Result<()> {
        ensure!(
            frame.frame >= self.next,
            "frame {} comes after frame {}; the frames of a result must ascend",
            frame.frame,
            self.next.saturating_sub(1)
        );
        self.skip_to(frame.frame);
        self.next = frame.frame.saturating_add(1);
        if !self.truth.covers(frame.frame) {
            self.score.frames_left_out += 1;
            return Ok(());
        }
        self.score.frames += 1;
        let mut labels = std::mem::take(&mut self.labels);
        self.sweep.at(frame.frame, &mut labels);
        if let Some((w, h)) = self.truth.size
            && frame.width > 0
            && frame.height > 0
        {
            let (sx, sy) = (f64::from(frame.width) / w, f64::from(frame.height) / h);
            for label in &mut labels {
                label.rect = label.rect.scaled(sx, sy);
            }
        }
        let faces = self.faces(frame);
        self.count(&labels, &faces);
        self.labels = labels;
        Ok(())
    }

    /// Counts the rest and returns the score.
    pub fn finish(mut self) -> Result<Score> {
        self.skip_to(self.truth.end + 1);
        for (label, track, frames) in identity::match_tracks(&self.overlaps)? {
            let person = self.truth.tracks[label as usize];
            let tally = &mut self.score.tallies[person];
            tally.id_frames += frames;
            tally.id_faces += self.track_faces[track as usize];
        }
        if let Some((hota, association)) = self.hota.finish(&self.truth.tracks) {
            self.score.hota = Some(hota);
            self.score.association = association;
        }
        Ok(self.score)
    }

    /// Counts the labels on frames before `frame` that are not in the result as missed.
    fn skip_to(&mut self, frame: u64) {
        let mut labels = std::mem::take(&mut self.labels);
        for missing in self.next..frame.min(self.truth.end + 1) {
            if self.truth.covers(missing) {
                self.sweep.at(missing, &mut labels);
                self.score.frames_missing += u64::from(!labels.is_empty());
                self.count(&labels, &[]);
            }
        }
        self.labels = labels;
    }

    /// The faces of a frame that count.
    fn faces(&mut self, frame: &Frame) -> Vec<Found> {
        let counted = frame
            .faces
            .iter()
            .filter(|f| self.count_predicted || !f.predicted);
        let mut faces = Vec::new();
        for face in counted {
            let track = face.track.map(|id| {
                let new = self.tracks.len();
                let track = *self.tracks.entry(id).or_insert(new);
                if track == new {
                    self.track_faces.push(0);
                }
                self.track_faces[track] += 1;
                track
            });
            let name = face.name.as_deref().map(normal);
            let name = name.map(|name| match self.names.get(&*name) {
                Some(known) => *known,
                None => {
                    let new = self.score.people.len();
                    let name = name.into_owned();
                    self.score.people.push(name.clone());
                    self.score.tallies.push(Tally::default());
                    self.names.insert(name, new);
                    new
                }
            });
            self.score.faces += 1;
            self.score.faces_tracked += u64::from(track.is_some());
            self.score.faces_named += u64::from(name.is_some());
            let [x, y, w, h] = face.r#box;
            faces.push(Found {
                rect: Rect::new(x, y, w, h),
                track,
                name,
                age: face.age.filter(|age| age.is_finite()),
                gender: face.gender.as_deref().and_then(Gender::parse),
                expression: face.expression.as_deref().and_then(Expression::parse),
            });
        }
        faces
    }

    fn count(&mut self, labels: &[Labelled], faces: &[Found]) {
        let overlaps: Vec<Vec<f64>> = labels
            .iter()
            .map(|l| faces.iter().map(|f| l.rect.iou(&f.rect)).collect())
            .collect();
        self.count_names(labels, faces, &overlaps);
        for (label, row) in labels.iter().zip(&overlaps) {
            self.score.tallies[label.person].boxes += 1;
            for (face, overlap) in faces.iter().zip(row) {
                if let Some(track) = face.track.filter(|_| *overlap >= self.least_overlap) {
                    let pair = (label.track as u32, track as u32);
                    *self.overlaps.entry(pair).or_default() += 1;
                }
            }
        }
        self.count_tracks(labels, faces, &overlaps);
        let matches = self.correspond(labels, faces, &overlaps);
        let mut left: Vec<bool> = vec![true; faces.len()];
        for (label, face) in labels.iter().zip(&matches) {
            let face = face.map(|j| {
                left[j] = false;
                &faces[j]
            });
            if let Some(face) = face {
                self.count_match(label, face);
            }
            let answer = face.map_or(Answer::NoFace, Found::answer);
            self.count_answer(Some(label.person), answer);
        }
        for (face, _) in faces.iter().zip(left).filter(|(_, left)| *left) {
            self.count_answer(None, face.answer());
        }
    }

    fn count_tracks(&mut self, labels: &[Labelled], faces: &[Found], overlaps: &[Vec<f64>]) {
        let labels: Vec<usize> = labels.iter().map(|label| label.track).collect();
        let tracked = (0..faces.len()).filter_map(|j| Some((j, faces[j].track?)));
        let (places, tracks): (Vec<usize>, Vec<usize>) = tracked.unzip();
        self.hota
            .add(&labels, &tracks, |i, j| overlaps[i][places[j]]);
    }

    fn count_answer(&mut self, labelled: Option<usize>, answer: Answer) {
        *self.score.answers.entry((labelled, answer)).or_default() += 1;
    }

    /// A name is right if the face overlaps any box with that name.
    fn count_names(&mut self, labels: &[Labelled], faces: &[Found], overlaps: &[Vec<f64>]) {
        let right =
            |i: usize, j: usize| overlaps[i][j] > 0.0 && faces[j].name == Some(labels[i].person);
        for (j, face) in faces.iter().enumerate() {
            if let Some(name) = face.name {
                let tally = &mut self.score.tallies[name];
                tally.named += 1;
                tally.named_right += u64::from((0..labels.len()).any(|i| right(i, j)));
            }
        }
        for (i, label) in labels.iter().enumerate() {
            let named = (0..faces.len()).any(|j| right(i, j));
            self.score.tallies[label.person].boxes_named += u64::from(named);
        }
    }

    /// The face that corresponds to each label, if any.
    fn correspond(
        &mut self,
        labels: &[Labelled],
        faces: &[Found],
        overlaps: &[Vec<f64>],
    ) -> Vec<Option<usize>> {
        let close = |i: usize, j: usize| overlaps[i][j] >= self.least_overlap;
        let mut matches: Vec<Option<usize>> = vec![None; labels.len()];
        let mut taken = vec![false; faces.len()];
        for (i, label) in labels.iter().enumerate() {
            let Some(last) = self.last_match[label.track] else {
                continue;
            };
            let same = (0..faces.len()).find(|&j| !taken[j] && faces[j].track == Some(last));
            if let Some(j) = same.filter(|&j| close(i, j)) {
                matches[i] = Some(j);
                taken[j] = true;
            }
        }
        let rows: Vec<usize> = (0..labels.len())
            .filter(|&i| matches[i].is_none())
            .collect();
        let columns: Vec<usize> = (0..faces.len()).filter(|&j| !taken[j]).collect();
        // One more pair is worth more than any difference of the distances.
        let limit = 1.0 + rows.len().min(columns.len()) as f64;
        let pairs = assign(rows.len(), columns.len(), limit, |i, j| {
            let (i, j) = (rows[i], columns[j]);
            if close(i, j) {
                1.0 - overlaps[i][j]
            } else {
                f64::INFINITY
            }
        });
        for (i, j) in pairs {
            matches[rows[i]] = Some(columns[j]);
        }
        matches
    }

    fn count_match(&mut self, label: &Labelled, face: &Found) {
        let tally = &mut self.score.tallies[label.person];
        tally.found += 1;
        if let Some(track) = face.track {
            let last = self.last_match[label.track].replace(track);
            tally.switches += u64::from(last.is_some_and(|last| last != track));
        }
        if let (Some(truth), Some(age)) = (label.age, face.age) {
            tally.age_error += (age - truth).abs();
            tally.ages += 1;
        }
        if let (Some(truth), Some(gender)) = (label.gender, face.gender) {
            tally.genders_right += u64::from(gender == truth);
            tally.genders += 1;
        }
        if let (Some(truth), Some(expression)) = (label.expression, face.expression) {
            tally.expressions_right += u64::from(expression == truth);
            tally.expressions += 1;
        }
    }
}

#[cfg(test)]
mod tests;
