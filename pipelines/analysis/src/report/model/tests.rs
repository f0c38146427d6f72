use super::*;
use crate::record::{Cluster, ClusterTrack, Clusters, Person, Summary, Track};

const SECOND: u64 = 1_000_000_000;

fn track(id: u64, name: Option<&str>, spans: &[[u64; 2]]) -> TrackSummary {
    let spans: Vec<_> = spans.iter().map(|s| s.map(|t| t * SECOND)).collect();
    TrackSummary {
        track: Track {
            track: id,
            frames: 10 * id,
            name: name.map(String::from),
            age: Some(20.0 + id as f64),
            gender: Some("female".into()),
            gender_confidence: Some(0.9),
            ..Track::default()
        },
        screen_time_ns: spans.iter().map(|[a, b]| b - a).sum(),
        appearances: spans,
        expressions: Vec::new(),
        thumbnail: Some(format!("thumbnails/{id}.jpg")),
        ..TrackSummary::default()
    }
}

fn input(name: &str, people: &[(&str, &[u64])], tracks: Vec<TrackSummary>) -> InputResults {
    let people = people.iter().map(|(name, tracks)| Person {
        name: name.to_string(),
        tracks: tracks.to_vec(),
        screen_time_ns: 30 * SECOND,
        share: 0.3,
        ..Person::default()
    });
    InputResults {
        name: name.into(),
        folder: Path::new("out").join(name),
        summary: Summary {
            input: format!("/films/{name}.mp4"),
            duration_ns: 100 * SECOND,
            people: people.collect(),
            tracks,
            ..Summary::default()
        },
    }
}

/// The tracks of a cluster, by folder.
type Members<'a> = &'a [(&'a str, u64)];

fn results(clusters: Option<&[(&str, Members)]>) -> Results {
    let clusters = clusters.map(|clusters| Clusters {
        version: 1,
        inputs: Default::default(),
        clusters: clusters
            .iter()
            .map(|(id, tracks)| Cluster {
                id: id.to_string(),
                sheet: format!("clusters/{id}.png"),
                tracks: tracks
                    .iter()
                    .map(|(folder, track)| ClusterTrack {
                        folder: folder.to_string(),
                        track: *track,
                    })
                    .collect(),
                ..Cluster::default()
            })
            .collect(),
    });
    Results {
        folder: "out".into(),
        clusters,
        inputs: vec![
            input(
                "a",
                &[("Ann", &[1, 3])],
                vec![
                    track(1, Some("Ann"), &[[0, 10]]),
                    track(2, Some("Unknown"), &[[5, 45]]),
                    track(3, Some("Ann"), &[[8, 20], [40, 50]]),
                    track(4, None, &[[60, 61]]),
                ],
            ),
            input(
                "b",
                &[("Ann", &[1])],
                vec![
                    track(1, Some("Ann"), &[[0, 30]]),
                    track(2, None, &[[0, 90]]),
                ],
            ),
        ],
    }
}

fn identities(rows: &[Row]) -> Vec<String> {
    rows.iter().map(|row| row.identity.label()).collect()
}

#[test]
fn a_row_is_a_person_a_group_or_a_track() {
    let report = build(&results(None));
    let labels = ["Ann", "track 2, unknown", "track 4, unknown"];
    assert_eq!(identities(&report.inputs[0].rows), labels);
    let ann = &report.inputs[0].rows[0];
    assert_eq!(
        ann.spans,
        [[0, 20 * SECOND], [40 * SECOND, 50 * SECOND]],
        "tracks of one person are joined"
    );
    assert_eq!(ann.totals.screen_time_ns, 30 * SECOND, "as summarised");
    assert_eq!(
        ann.thumbnail.as_deref(),
        Some(Path::new("out/a/thumbnails/3.jpg")),
        "of the longest track"
    );
    assert_eq!((report.loose, report.has_clusters), (3, false));
    assert_eq!(report.people(), 1);

    let clusters: &[(&str, &[(&str, u64)])] = &[
        // Ann got her name after the strangers were grouped, and track 99 is gone.
        ("stranger-1", &[("a", 2), ("b", 2), ("a", 3), ("b", 99)]),
        ("stranger-2", &[("gone", 1)]),
    ];
    let report = build(&results(Some(clusters)));
    let labels = ["Ann", "stranger-1", "track 4, unknown"];
    assert_eq!(identities(&report.inputs[0].rows), labels);
    assert_eq!((report.loose, report.has_clusters), (1, true));
    let [stranger] = &report.strangers[..] else {
        panic!("{:?}", report.strangers)
    };
    assert_eq!(stranger.inputs, [0, 1]);
    assert_eq!(stranger.totals.screen_time_ns, 130 * SECOND);
    assert_eq!(stranger.totals.share, Some(0.65));
    assert_eq!(stranger.totals.tracks, 2);
    assert_eq!(stranger.totals.age, Some(22.0));
    assert_eq!(
        stranger.thumbnails,
        ["out/b/thumbnails/2.jpg", "out/a/thumbnails/2.jpg"].map(PathBuf::from)
    );
    let ranking: Vec<_> = report.ranking.iter().map(|r| r.identity.label()).collect();
    assert_eq!(ranking, ["stranger-1", "Ann"], "longest first");
    assert_eq!(report.ranking[1].totals.screen_time_ns, 60 * SECOND);
    assert_eq!(report.ranking[1].totals.tracks, 3);
}

#[test]
fn people_of_an_input_stay_its_own_until_they_are_grouped() {
    let clusters: &[(&str, &[(&str, u64)])] = &[("stranger-1", &[("a", 2), ("b", 2)])];
    let mut results = results(Some(clusters));
    // `b` was grouped, `a` has been analysed since.
    for (input, track, person) in [
        (0, 1, "stranger-1"),
        (0, 3, "stranger-1"),
        (1, 1, "stranger-1"),
    ] {
        results.inputs[input].summary.tracks[track].person = Some(person.into());
    }
    results.inputs[1].summary.shared_strangers = 1;
    let report = build(&results);
    assert_eq!(
        identities(&report.inputs[0].rows),
        ["Ann", "stranger-1 (a)"]
    );
    assert_eq!(identities(&report.inputs[1].rows), ["Ann", "stranger-1"]);
    assert_eq!(report.inputs[0].rows[1].totals.tracks, 2, "one person");
    assert_eq!((report.local, report.loose, report.people()), (1, 0, 3));
}

#[test]
fn too_many_single_tracks_share_a_row() {
    let tracks = (1..=150).map(|id| track(id, None, &[[id / 2, id]]));
    let results = Results {
        folder: "out".into(),
        clusters: None,
        inputs: vec![input("a", &[], tracks.collect())],
    };
    let report = build(&results);
    let rows = &report.inputs[0].rows;
    assert_eq!(rows.len(), MOST_SINGLES + 1);
    assert_eq!(rows[0].identity, Identity::Track(150), "longest first");
    assert_eq!(rows[MOST_SINGLES].identity, Identity::Others(50));
    assert_eq!(rows[MOST_SINGLES].totals.tracks, 50);
    assert_eq!(rows[MOST_SINGLES].totals.age, None);
    assert_eq!(report.inputs[0].end_ns, 150 * SECOND, "past the duration");
    assert_eq!(report.loose, 150);
}

#[test]
fn a_thumbnail_is_one_of_the_results() {
    for path in ["../../secret.jpg", "/secret.jpg"] {
        let mut stray = track(1, None, &[[0, 1]]);
        stray.thumbnail = Some(path.into());
        let seen = Appearance {
            input: 0,
            folder: Path::new("out/a"),
            track: &stray,
        };
        assert_eq!(seen.thumbnail(), None, "{path}");
    }
}
