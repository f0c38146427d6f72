//! Names over whole tracks, and how they are written back to the frames.

use std::collections::{BTreeSet, HashMap};

use clap::ValueEnum;
use gstfacerecog::gallery::Gallery;
use gstfacerecog::recognizer::Embedded;
use gstfacerecog::vote::{TrackVote, Verdict, decide};

use super::people::name_of;
use super::tally::{Seen, fine};
use crate::record::{Face, Line, TrackSummary, UNKNOWN};

/// What name, age and gender of a face on a frame are those of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Smoothing {
    /// The whole track, also on its first frame
    Track,
    /// The track up to the frame, as a live stream has them
    Running,
    /// The frame alone: every face on every frame is looked at, which is slow
    None,
}

/// Names tracks as `facerecognizer` does, by the votes of their embeddings.
pub struct Namer<'a> {
    pub gallery: &'a Gallery,
    /// How many of the nearest rows vote.
    pub neighbors: usize,
    /// Cosine distance beyond which a row votes for nobody.
    pub threshold: f64,
}

impl Namer<'_> {
    /// The majority over `embeddings`; without any, nobody.
    pub fn name(&self, embeddings: &[Embedded]) -> Verdict {
        let mut vote = TrackVote::default();
        for Embedded { embedding, weight } in embeddings {
            let nearest = self.gallery.nearest(embedding, self.neighbors);
            let verdict = decide(self.gallery, &nearest, self.neighbors, self.threshold);
            vote.add(verdict, *weight);
        }
        vote.majority().unwrap_or(Verdict {
            person: None,
            share: 1.0,
            distance: 2.0,
        })
    }
}

/// The rows of `people` alone.
pub fn restricted(gallery: &Gallery, people: &BTreeSet<String>) -> Gallery {
    let mut rest = Gallery::new(gallery.model.clone(), gallery.dimensions());
    for row in 0..gallery.len() {
        let named = gallery.row(row);
        if people.contains(&named.person) {
            // Fits, as it comes from a gallery of the same length.
            rest.push(named, &gallery.embedding(row));
        }
    }
    rest
}

/// Gives a track the name of a verdict.
pub fn set_name(track: &mut TrackSummary, verdict: Verdict) {
    track.track.name = Some(verdict.person.unwrap_or_else(|| UNKNOWN.into()));
    track.track.name_confidence = Some(fine(verdict.share));
    track.distance = Some(fine(verdict.distance));
}

/// Names those of `tracks` that are nobody of `main` again, among `main` only; returns their ids.
pub fn restrict<'a>(
    tracks: &mut [Seen],
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
    for track in tracks {
        if name_of(track).is_none_or(|name| !main.contains(name)) {
            let id = track.summary.track.track;
            set_name(&mut track.summary, namer.name(embeddings(id)));
            renamed.insert(id);
        }
    }
    renamed
}

/// The people that names are restricted to, and the tracks that were named again for it.
#[derive(Debug, Default)]
pub struct Restriction {
    pub main: BTreeSet<String>,
    pub renamed: BTreeSet<u64>,
}

/// Writes what is known of whole tracks back to the lines.
pub struct Rewriter<'a> {
    tracks: HashMap<u64, &'a TrackSummary>,
    smoothing: Smoothing,
    restriction: Option<&'a Restriction>,
}

impl<'a> Rewriter<'a> {
    pub fn new(
        tracks: &'a [Seen],
        smoothing: Smoothing,
        restriction: Option<&'a Restriction>,
    ) -> Self {
        let tracks = tracks.iter().map(|t| (t.summary.track.track, &t.summary));
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

    /// Whether the name on a single frame does not stay: its track was named again, or it is that of
    /// somebody who is no main person.
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
    use gstfacerecog::gallery::{ModelId, Row};

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
            neighbors: 6,
            threshold: 0.1,
        }
    }

    fn at(degrees: f32, weight: f64) -> Embedded {
        Embedded {
            embedding: unit(degrees),
            weight,
        }
    }

    fn seen(id: u64, name: Option<&str>) -> Seen {
        Seen {
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

    fn main(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_track_is_named_by_all_its_embeddings() {
        let gallery = gallery();
        let namer = namer(&gallery);
        let verdict = namer.name(&[at(1.0, 0.9), at(29.0, 0.1), at(28.0, 0.2)]);
        assert_eq!(verdict.person.as_deref(), Some("ann"));
        assert!((verdict.share - 0.75).abs() < 1e-6);
        assert_eq!(namer.name(&[at(60.0, 1.0)]).person, None);
        assert_eq!(namer.name(&[]).person, None);
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
        let names: Vec<_> = tracks.iter().map(|t| name_of(t).unwrap_or("-")).collect();
        assert_eq!(names, ["ann", "ann", "-", "ann", "-"]);
        assert_eq!(renamed.into_iter().collect::<Vec<_>>(), [2, 3, 4, 5]);
        assert_eq!(tracks[0].summary.track.name_confidence, Some(0.9), "kept");

        restrict(&mut tracks, &main(&[]), &namer(&gallery), find);
        assert!(tracks.iter().all(|t| name_of(t).is_none()));
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

    /// Name and age of the one face of `line`, rewritten.
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
        let rewriter = Rewriter::new(&tracks, Smoothing::Track, None);
        let ann = (Some("ann".to_owned()), Some(40.0));
        assert_eq!(rewritten(&rewriter, line(Some(1), Some(UNKNOWN))), ann);
        assert_eq!(
            rewritten(&rewriter, line(Some(2), None)),
            (None, Some(40.0))
        );
        // A face without a track, or of one that never ended, stays.
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
            let free = Rewriter::new(&tracks, smoothing, None);
            assert_eq!(name(&free, 1, "eve"), "eve");
            let restriction = Restriction {
                main: main(&["ann"]),
                renamed: BTreeSet::from([2]),
            };
            let bound = Rewriter::new(&tracks, smoothing, Some(&restriction));
            assert_eq!(name(&bound, 1, "eve"), "ann");
            assert_eq!(name(&bound, 1, UNKNOWN), UNKNOWN);
            assert_eq!(name(&bound, 2, "eve"), UNKNOWN);
            let kept = rewritten(&bound, line(Some(1), Some("ann")));
            assert_eq!(kept.1, Some(20.0), "the frame's own age");
        }
    }
}
