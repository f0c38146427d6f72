//! Names whole tracks, and writes the names back to the frames.

use std::collections::{BTreeSet, HashMap};

use clap::ValueEnum;
use face_gallery::Gallery;
use face_gallery::evidence::{Embedded, Mean};
use face_gallery::rivals::{Claim, assign, collide};
use face_gallery::vote::{Rule, Verdict, who_else};
use serde::{Deserialize, Serialize};

use super::people::name_of;
use super::tally::{Span, WholeTrack, fine};
use crate::name::bars::Barred;
use crate::record::{Face, Line, TrackSummary, UNKNOWN};

/// The origin of the name, age and gender of a face on a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Smoothing {
    /// The whole track, even on its first frame
    #[default]
    Track,
    /// The track up to the frame, as in a live stream
    Running,
    /// The frame alone: every face on every frame is processed, which is slow
    None,
}

/// Names tracks by all of their embeddings together, like `facerecognizer`.
pub struct Namer<'a> {
    pub gallery: &'a Gallery,
    pub rule: Rule,
    /// Whether tracks that are seen together may have one name.
    pub repeated_names: bool,
    /// The names that tracks must not get.
    pub barred: &'a Barred,
}

impl Namer<'_> {
    /// Who the `embeddings` of a track are together. Without any, it is nobody.
    pub fn name(&self, track: u64, embeddings: &[Embedded]) -> Verdict {
        self.name_else(track, embeddings, &BTreeSet::new())
    }

    /// The same as if `others` were not in the gallery.
    fn name_else(&self, track: u64, embeddings: &[Embedded], others: &BTreeSet<String>) -> Verdict {
        let Some(mean) = Mean::of(embeddings).unit() else {
            return Verdict::nobody();
        };
        match self.barred.get(&track) {
            Some(barred) => who_else(self.gallery, &mean, &self.rule, &(others | barred)),
            None => who_else(self.gallery, &mean, &self.rule, others),
        }
    }
}

/// Names tracks again so that each person is on one track at a time: of those that are seen
/// together, the nearest keeps the name. Returns the ids of the others.
pub fn settle<'a>(
    tracks: &mut [WholeTrack],
    namer: &Namer,
    embeddings: impl Fn(u64) -> &'a [Embedded],
) -> BTreeSet<u64> {
    let claim = |track: &WholeTrack| {
        let summary = &track.summary;
        Claim::from(Verdict {
            person: name_of(summary).map(str::to_owned),
            confidence: summary.track.name_confidence.unwrap_or(1.0),
            // Of the whole track.
            distance: summary.distance.unwrap_or(2.0),
        })
    };
    let claims: Vec<Claim> = tracks.iter().map(claim).collect();
    if namer.repeated_names || !collide(&claims) {
        return BTreeSet::new();
    }
    let verdicts = assign(
        claims,
        |a, b| seen_together(&tracks[a], &tracks[b]),
        |track, others| {
            let id = tracks[track].summary.track.track;
            namer.name_else(id, embeddings(id), others).into()
        },
    );
    let mut renamed = BTreeSet::new();
    for (track, verdict) in tracks.iter_mut().zip(verdicts) {
        if name_of(&track.summary) != verdict.person.as_deref() {
            renamed.insert(track.summary.track.track);
            set_name(&mut track.summary, verdict);
        }
    }
    renamed
}

/// Whether two tracks were on screen at the same time.
fn seen_together(a: &WholeTrack, b: &WholeTrack) -> bool {
    let meet = |a: &Span, b: &Span| a.first <= b.last && b.first <= a.last;
    a.spans.iter().any(|a| b.spans.iter().any(|b| meet(a, b)))
}

/// The part of a gallery that contains `people`.
pub fn restricted(gallery: &Gallery, people: &BTreeSet<String>) -> Gallery {
    let mut rest = Gallery::new(gallery.model.clone(), gallery.dimensions());
    rest.keep_strangers_of(gallery);
    for row in 0..gallery.len() {
        let named = gallery.row(row);
        if people.contains(&named.person) {
            // It fits, because it comes from a gallery of the same length.
            rest.push(named, &gallery.embedding(row));
        }
    }
    rest
}

/// Names a track by a verdict.
pub fn set_name(track: &mut TrackSummary, verdict: Verdict) {
    track.track.name = Some(verdict.person.unwrap_or_else(|| UNKNOWN.into()));
    track.track.name_confidence = Some(fine(verdict.confidence));
    track.distance = Some(fine(verdict.distance));
}

/// Names all of `tracks` that are not named after somebody in `main` again, choosing among `main`
/// only. Returns their ids.
pub fn restrict<'a>(
    tracks: &mut [WholeTrack],
    main: &BTreeSet<String>,
    namer: &Namer,
    embeddings: impl Fn(u64) -> &'a [Embedded],
) -> BTreeSet<u64> {
    let few = restricted(namer.gallery, main);
    let namer = Namer {
        gallery: &few,
        ..*namer
    };
    let mut renamed = BTreeSet::new();
    for track in tracks.iter_mut() {
        if name_of(&track.summary).is_none_or(|name| !main.contains(name)) {
            let id = track.summary.track.track;
            set_name(&mut track.summary, namer.name(id, embeddings(id)));
            renamed.insert(id);
        }
    }
    renamed.extend(settle(tracks, &namer, embeddings));
    renamed
}

/// The people to whom names are restricted, and the tracks renamed because of it.
#[derive(Debug, Default)]
pub struct Restriction {
    pub main: BTreeSet<String>,
    pub renamed: BTreeSet<u64>,
}

/// Writes the results of whole tracks back to the lines.
pub struct Rewriter<'a> {
    tracks: HashMap<u64, &'a TrackSummary>,
    smoothing: Smoothing,
    restriction: Option<&'a Restriction>,
}

impl<'a> Rewriter<'a> {
    pub fn new(
        tracks: impl IntoIterator<Item = &'a TrackSummary>,
        smoothing: Smoothing,
        restriction: Option<&'a Restriction>,
    ) -> Self {
        let tracks = tracks.into_iter().map(|t| (t.track.track, t));
        Self {
            tracks: tracks.collect(),
            smoothing,
            restriction,
        }
    }

    pub fn rewrite(&self, line: &mut Line) {
        match line {
            Line::Track(track) => {
                if let Some(whole) = self.tracks.get(&track.track) {
                    *track = whole.track.clone();
                }
            }
            Line::Frame(frame) => {
                for face in &mut frame.faces {
                    if let Some(whole) = face.track.and_then(|id| self.tracks.get(&id)) {
                        self.face(face, whole);
                    }
                }
            }
        }
    }

    fn face(&self, face: &mut Face, whole: &TrackSummary) {
        if self.smoothing == Smoothing::Track {
            face.age = whole.track.age;
            face.gender = whole.track.gender.clone();
            face.gender_confidence = whole.track.gender_confidence;
        }
        if self.smoothing == Smoothing::Track || self.must_give_way(face, whole) {
            face.name = whole.track.name.clone();
            face.name_confidence = whole.track.name_confidence;
            face.distance = whole.distance;
        }
    }

    /// Whether to remove the name on a single frame: its track was named again, or the name is not
    /// that of a main person.
    fn must_give_way(&self, face: &Face, whole: &TrackSummary) -> bool {
        let (Some(restriction), Some(name)) = (self.restriction, &face.name) else {
            return false;
        };
        restriction.renamed.contains(&whole.track.track)
            || (name != UNKNOWN && !restriction.main.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Frame, Track};
    use face_gallery::{ModelId, Row};

    static NOBODY: Barred = Barred::new();

    fn unit(degrees: f32) -> Vec<f32> {
        let (y, x) = degrees.to_radians().sin_cos();
        vec![x, y]
    }

    /// Ann at 0°, Bob at 30°, Eve at 90°.
    fn gallery() -> Gallery {
        let model = ModelId {
            name: "m".into(),
            sha256: String::new(),
        };
        let mut gallery = Gallery::new(model, 2);
        for (person, degrees) in [("ann", 0.0), ("bob", 30.0), ("eve", 90.0)] {
            let row = Row {
                person: person.into(),
                source: String::new(),
            };
            assert!(gallery.push(row, &unit(degrees)));
        }
        gallery
    }

    fn namer(gallery: &Gallery) -> Namer<'_> {
        Namer {
            gallery,
            rule: Rule {
                false_name_rate: 0.001,
                distance_threshold: Some(0.1),
                strangers: None,
                fallback: 0.1,
            },
            repeated_names: false,
            barred: &NOBODY,
        }
    }

    fn at(degrees: f32, weight: f64) -> Embedded {
        Embedded {
            embedding: unit(degrees).into(),
            weight,
        }
    }

    fn seen(id: u64, name: Option<&str>) -> WholeTrack {
        WholeTrack {
            summary: TrackSummary {
                track: Track {
                    track: id,
                    name: name.map(Into::into),
                    name_confidence: Some(0.9),
                    age: Some(40.0),
                    gender: Some("male".into()),
                    gender_confidence: Some(0.8),
                    ..Track::default()
                },
                distance: Some(0.3),
                ..TrackSummary::default()
            },
            spans: Vec::new(),
        }
    }

    /// A track named by its embedding, and seen at these times.
    fn at_times(id: u64, degrees: f32, spans: &[(u64, u64)], namer: &Namer) -> WholeTrack {
        let mut track = seen(id, None);
        set_name(&mut track.summary, namer.name(1, &[at(degrees, 1.0)]));
        let span = |&(first, last)| Span {
            first,
            last,
            end: last,
        };
        track.spans = spans.iter().map(span).collect();
        track
    }

    #[test]
    fn of_tracks_seen_together_the_nearest_keeps_the_name() {
        let gallery = gallery();
        let namer = namer(&gallery);
        // Between Ann and Bob, but nearer to Ann; Ann; and Ann again when the others are gone.
        let degrees = [14.0, 1.0, 3.0];
        let embeddings = degrees.map(|degrees| vec![at(degrees, 1.0)]);
        let find = |id: u64| embeddings[id as usize - 1].as_slice();
        let tracks = |spans: [&[(u64, u64)]; 3]| -> Vec<WholeTrack> {
            let numbered = (1..).zip(degrees).zip(spans);
            numbered
                .map(|((id, degrees), spans)| at_times(id, degrees, spans, &namer))
                .collect()
        };
        let names = |tracks: &[WholeTrack]| -> Vec<String> {
            tracks
                .iter()
                .map(|t| name_of(&t.summary).unwrap_or("-").to_owned())
                .collect()
        };
        let mut together = tracks([&[(0, 9)], &[(5, 20)], &[(21, 30)]]);
        assert_eq!(names(&together), ["ann"; 3]);
        let renamed = settle(&mut together, &namer, find);
        assert_eq!(names(&together), ["bob", "ann", "ann"]);
        assert_eq!(renamed.into_iter().collect::<Vec<_>>(), [1]);
        assert!(settle(&mut together, &namer, find).is_empty(), "settled");

        let mut apart = tracks([&[(0, 4), (21, 30)], &[(5, 20)], &[(31, 40)]]);
        assert!(settle(&mut apart, &namer, find).is_empty());
        let repeated = Namer {
            repeated_names: true,
            ..namer
        };
        let mut together = tracks([&[(0, 9)], &[(5, 20)], &[(21, 30)]]);
        assert!(settle(&mut together, &repeated, find).is_empty());

        // Among main persons, too: nobody else is left for the first.
        let mut together = tracks([&[(0, 9)], &[(5, 20)], &[(21, 30)]]);
        let renamed = restrict(&mut together, &main(&["ann"]), &namer, find);
        assert_eq!(names(&together), ["-", "ann", "ann"]);
        assert_eq!(renamed.into_iter().collect::<Vec<_>>(), [1]);
    }

    fn main(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_track_is_named_by_all_its_embeddings() {
        let gallery = gallery();
        let namer = namer(&gallery);
        let verdict = namer.name(1, &[at(1.0, 0.9), at(29.0, 0.1), at(28.0, 0.2)]);
        assert_eq!(verdict.person.as_deref(), Some("ann"));
        // Of the mean, 7.8° from Ann.
        assert!(verdict.distance < 0.01, "{}", verdict.distance);
        assert_eq!(namer.name(1, &[at(60.0, 1.0)]).person, None);
        assert_eq!(namer.name(1, &[]).person, None);
    }

    #[test]
    fn variations_of_a_photo_vote_as_one() {
        let mut gallery = gallery();
        for i in 1..6u8 {
            let row = Row {
                person: "dan".into(),
                source: if i == 1 {
                    "1.jpg".into()
                } else {
                    format!("1.jpg#{i}")
                },
            };
            assert!(gallery.push(row, &unit(200.0 + f32::from(i))));
        }
        for (person, source, degrees) in [("fay", "1.jpg", 212.0), ("fay", "2.jpg", 213.0)] {
            let row = Row {
                person: person.into(),
                source: source.into(),
            };
            assert!(gallery.push(row, &unit(degrees)));
        }
        // Dan's five rows from one photo are nearer, but Fay has two photos.
        let fay = namer(&gallery).name(1, &[at(208.6, 0.5)]);
        assert_eq!(fay.person.as_deref(), Some("fay"));
        let few = restricted(&gallery, &main(&["dan", "eve"]));
        let dan = namer(&few).name(1, &[at(203.0, 0.5)]);
        assert_eq!(dan.person.as_deref(), Some("dan"));
    }

    #[test]
    fn the_rest_is_named_again_among_the_main_persons() {
        let gallery = gallery();
        let mut tracks = [
            seen(1, Some("ann")),
            seen(2, Some("bob")),
            seen(3, Some("eve")),
            seen(4, Some(UNKNOWN)),
            seen(5, None),
        ];
        let embeddings = [
            vec![],
            // Nearer to Bob than to Ann, but within the threshold of both.
            vec![at(17.0, 1.0)],
            vec![at(90.0, 1.0)],
            vec![at(2.0, 1.0)],
            vec![],
        ];
        let find = |id: u64| embeddings[id as usize - 1].as_slice();
        let renamed = restrict(&mut tracks, &main(&["ann"]), &namer(&gallery), find);
        let name = |t: &WholeTrack| name_of(&t.summary).unwrap_or("-").to_owned();
        let names: Vec<_> = tracks.iter().map(name).collect();
        assert_eq!(names, ["ann", "ann", "-", "ann", "-"]);
        assert_eq!(renamed.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(tracks[0].summary.track.name_confidence, Some(0.9), "kept");

        restrict(&mut tracks, &main(&[]), &namer(&gallery), find);
        assert!(tracks.iter().all(|t| name_of(&t.summary).is_none()));
    }

    fn line(id: Option<u64>, name: Option<&str>) -> Line {
        Line::Frame(Frame {
            faces: vec![Face {
                track: id,
                name: name.map(Into::into),
                age: Some(20.0),
                ..Face::default()
            }],
            ..Frame::default()
        })
    }

    /// The name and age of the only face in the rewritten `line`.
    fn rewritten(rewriter: &Rewriter, mut line: Line) -> (Option<String>, Option<f64>) {
        rewriter.rewrite(&mut line);
        match line {
            Line::Frame(frame) => (frame.faces[0].name.clone(), frame.faces[0].age),
            Line::Track(track) => (track.name, track.age),
        }
    }

    #[test]
    fn whole_tracks_are_written_back_to_their_first_frame() {
        let tracks = [seen(1, Some("ann")), seen(2, None)];
        let rewriter = Rewriter::new(tracks.iter().map(|t| &t.summary), Smoothing::Track, None);
        let ann = (Some("ann".to_owned()), Some(40.0));
        assert_eq!(rewritten(&rewriter, line(Some(1), Some(UNKNOWN))), ann);
        assert_eq!(
            rewritten(&rewriter, line(Some(2), None)),
            (None, Some(40.0))
        );
        // A face without a track, or of a track that never ended, stays as it is.
        for id in [None, Some(9)] {
            let kept = rewritten(&rewriter, line(id, Some("eve")));
            assert_eq!(kept, (Some("eve".into()), Some(20.0)));
        }
        let track = Line::Track(Track {
            track: 1,
            ..Track::default()
        });
        assert_eq!(rewritten(&rewriter, track), ann);
    }

    #[test]
    fn without_smoothing_only_names_that_are_ruled_out_change() {
        let tracks = [seen(1, Some("ann")), seen(2, Some(UNKNOWN))];
        let name = |rewriter: &Rewriter, id: u64, name: &str| {
            rewritten(rewriter, line(Some(id), Some(name)))
                .0
                .expect("a name")
        };
        for smoothing in [Smoothing::Running, Smoothing::None] {
            let free = Rewriter::new(tracks.iter().map(|t| &t.summary), smoothing, None);
            assert_eq!(name(&free, 1, "eve"), "eve");
            let restriction = Restriction {
                main: main(&["ann"]),
                renamed: BTreeSet::from([2]),
            };
            let bound = Rewriter::new(
                tracks.iter().map(|t| &t.summary),
                smoothing,
                Some(&restriction),
            );
            assert_eq!(name(&bound, 1, "eve"), "ann");
            assert_eq!(name(&bound, 1, UNKNOWN), UNKNOWN);
            assert_eq!(name(&bound, 2, "eve"), UNKNOWN);
            let kept = rewritten(&bound, line(Some(1), Some("ann")));
            assert_eq!(kept.1, Some(20.0), "the frame's own age");
        }
    }
}
