use super::*;
use crate::record::Track;

/// A track on screen from the first to the second time, on 20 frames.
fn track(id: u64, name: Option<&str>, first: u64, last: u64) -> TrackSummary {
    TrackSummary {
        track: Track {
            track: id,
            name: name.map(Into::into),
            frames: 20,
            ..Track::default()
        },
        appearances: vec![[first, last]],
        ..TrackSummary::default()
    }
}

fn look(degrees: f32) -> Look {
    let (y, x) = degrees.to_radians().sin_cos();
    Look {
        unit: vec![x, y],
        weight: 5.0,
    }
}

/// The ids of the tracks of each part, and whether it is too little.
fn stitched(tracks: &[(TrackSummary, f32)], in_picture: bool) -> Vec<(Vec<u64>, bool)> {
    let mut nearness = Nearness::of(
        &face_core::model::Model::find("sface")
            .expect("set up")
            .descriptor,
    );
    nearness.fixed = Some(0.2);
    let looks = tracks
        .iter()
        .map(|(track, degrees)| (track, look(*degrees)));
    within(0, in_picture, looks, &nearness)
        .iter()
        .map(|part| {
            (
                part.tracks.iter().map(|t| t.track.track).collect(),
                part.poor,
            )
        })
        .collect()
}

#[test]
fn tracks_of_one_person_are_joined() {
    let film = [
        (track(1, None, 0, 10), 0.0),
        (track(2, None, 20, 30), 90.0),
        (track(3, None, 20, 30), 5.0),
        (track(4, Some("Unknown"), 40, 50), 10.0),
    ];
    assert_eq!(
        stitched(&film, false),
        [(vec![1, 3, 4], false), (vec![2], false)]
    );
}

#[test]
fn whoever_is_on_screen_at_the_same_time_is_somebody_else() {
    let film = [
        (track(1, None, 0, 10), 0.0),
        (track(2, None, 10, 30), 0.0),
        (track(3, None, 31, 40), 1.0),
    ];
    assert_eq!(
        stitched(&film, false),
        [(vec![1, 3], false), (vec![2], false)]
    );
}

#[test]
fn different_names_are_different_people() {
    let film = [
        (track(1, Some("ann"), 0, 10), 0.0),
        (track(2, Some("bob"), 20, 30), 1.0),
        (track(3, None, 40, 50), -1.0),
        // By another photo; even at the same time it is the same person.
        (track(4, Some("ann"), 5, 30), 100.0),
        (track(5, None, 20, 25), 101.0),
    ];
    let mut found = stitched(&film, false);
    found.iter_mut().for_each(|(ids, _)| ids.sort_unstable());
    assert!(found.contains(&(vec![1, 4], false)), "{found:?}");
    assert!(found.iter().any(|(ids, _)| ids == &[2, 3]), "{found:?}");
    assert!(
        found.contains(&(vec![5], false)),
        "on screen with Ann: {found:?}"
    );
}

#[test]
fn a_glimpse_is_somebody_only_if_it_resembles_one_person() {
    let glimpse = |id: u64, first: u64| {
        let mut track = track(id, None, first, first + 1);
        track.track.frames = 2;
        track
    };
    let film = [
        (track(1, None, 0, 10), 0.0),
        (track(2, None, 0, 10), 76.0),
        (glimpse(3, 20), 0.0),
        // Within reach of both.
        (glimpse(4, 30), 38.0),
        (glimpse(5, 40), 150.0),
    ];
    assert_eq!(
        stitched(&film, false),
        [
            (vec![1, 3], false),
            (vec![2], false),
            (vec![4], true),
            (vec![5], true)
        ]
    );
    assert_eq!(
        stitched(&[(glimpse(1, 0), 0.0)], true),
        [(vec![1], false)],
        "in a picture"
    );
    assert!(stitched(&[], false).is_empty());
}
