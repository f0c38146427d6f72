use super::*;

/// A camera with 10 frames per second.
struct Film {
    scene: Scene,
    start: Moment,
    /// In milliseconds.
    now: u64,
}

/// Track and name of each face in a frame.
type Cast<'a> = &'a [(u64, &'a str)];

impl Film {
    fn new() -> Self {
        let seconds = Duration::from_secs;
        Self {
            scene: Scene::new(seconds(5), seconds(2)),
            start: Moment::now(),
            now: 0,
        }
    }

    fn moment(&self) -> Moment {
        let since = Duration::from_millis(self.now);
        Moment {
            instant: self.start.instant + since,
            time: self.start.time + since,
        }
    }

    /// Plays the given number of seconds. Returns what happens, with the time in tenths of a second.
    fn play(&mut self, seconds: f64, cast: Cast) -> Vec<(u64, Happening)> {
        let frame = Frame {
            faces: cast
                .iter()
                .map(|&(track, name)| Face {
                    track: Some(track),
                    name: Some(name.into()),
                    name_confidence: Some(0.75),
                    ..Face::default()
                })
                .collect(),
            ..Frame::default()
        };
        let line = Line::Frame(frame);
        let mut all = Vec::new();
        for _ in 0..(seconds * 10.0).round() as u64 {
            let found = self.scene.line(&line, self.moment());
            all.extend(found.into_iter().map(|h| (self.now / 100, h)));
            self.now += 100;
        }
        all
    }

    fn end_track(&mut self, track: u64, name: &str) -> Vec<Happening> {
        let line = Line::Track(Track {
            track,
            name: Some(name.into()),
            ..Track::default()
        });
        self.scene.line(&line, self.moment())
    }
}

fn appeared(name: &str, track: u64) -> Happening {
    Happening::Appeared {
        name: name.into(),
        track,
        confidence: Some(0.75),
    }
}

#[test]
fn a_person_appears_once_over_several_tracks_and_leaves_once() {
    let mut film = Film::new();
    assert_eq!(film.play(3.0, &[(1, "anna")]), [(6, appeared("anna", 1))]);
    assert_eq!(film.play(3.0, &[]), []);
    // As another track, and even as two at the same time.
    assert_eq!(film.play(3.0, &[(2, "anna"), (3, "anna")]), []);
    let left = film.play(10.0, &[]);
    let [
        (
            tenths,
            Happening::Left {
                name,
                since,
                last_seen,
                duration,
            },
        ),
    ] = left.as_slice()
    else {
        panic!("{left:?}");
    };
    // Last seen at 8.9 s.
    assert_eq!((*tenths, name.as_str(), *duration), (140, "anna", 8.9));
    assert_eq!(*since, film.start.time);
    assert_eq!(last_seen.duration_since(*since).as_millis(), 8900);
    assert_eq!(
        film.play(1.0, &[(4, "anna")]),
        [(film.now / 100 - 4, appeared("anna", 4))]
    );
}

#[test]
fn one_wrong_look_is_nobody() {
    let mut film = Film::new();
    assert_eq!(film.play(0.5, &[(1, "tom")]), []);
    assert_eq!(film.play(1.0, &[(1, "anna")]), [(11, appeared("anna", 1))]);
    assert_eq!(film.end_track(1, "anna"), []);
}

#[test]
fn a_short_visit_is_seen_when_its_track_ends() {
    let mut film = Film::new();
    assert_eq!(film.play(0.3, &[(1, "anna"), (2, UNKNOWN)]), []);
    assert_eq!(
        film.end_track(1, "anna"),
        [Happening::Appeared {
            name: "anna".into(),
            track: 1,
            confidence: None
        }]
    );
    assert_eq!(film.end_track(2, UNKNOWN), []);
    assert_eq!(film.end_track(3, "tom"), [], "nobody saw that track");
}

#[test]
fn a_stranger_is_said_once_a_track_and_only_if_nobody_knows_them() {
    let mut film = Film::new();
    let stranger = |track| Happening::Stranger { track, who: None };
    assert_eq!(film.play(1.9, &[(1, UNKNOWN), (2, UNKNOWN)]), []);
    // Track 2 gets a name just in time.
    assert_eq!(
        film.play(3.0, &[(1, UNKNOWN), (2, "tom")]),
        [(20, stranger(1)), (25, appeared("tom", 2))]
    );
    assert_eq!(film.play(3.0, &[(3, UNKNOWN)]), [(69, stranger(3))]);
}

#[test]
fn predicted_faces_and_faces_without_a_name_are_nobody() {
    let mut scene = Scene::new(Duration::ZERO, Duration::ZERO);
    let face = Face {
        track: Some(1),
        name: Some(UNKNOWN.into()),
        predicted: true,
        ..Face::default()
    };
    let nameless = Face {
        track: Some(2),
        ..Face::default()
    };
    let line = Line::Frame(Frame {
        faces: vec![face, nameless],
        ..Frame::default()
    });
    assert_eq!(scene.line(&line, Moment::now()), []);
}

#[test]
fn a_presence_survives_the_camera_and_the_absence_begins_when_it_is_back() {
    let mut film = Film::new();
    assert_eq!(film.play(1.0, &[(1, "anna")]).len(), 1);
    assert_eq!(film.scene.camera_lost(), Some(Happening::CameraLost));
    assert_eq!(film.scene.camera_lost(), None, "said once");
    film.now += 600_000;
    // Still there, ten minutes later.
    let back = film.play(2.0, &[(9, "anna")]);
    assert_eq!(back, [(6010, Happening::CameraBack)]);
    film.scene.camera_lost();
    film.now += 600_000;
    let gone = film.play(10.0, &[]);
    let [
        (_, Happening::CameraBack),
        (tenths, Happening::Left { duration, .. }),
    ] = gone.as_slice()
    else {
        panic!("{gone:?}");
    };
    // One second of the outage counts.
    assert_eq!((*tenths, *duration), (12_071, 602.9));
}

#[test]
fn a_stall_without_frames_is_no_absence() {
    let mut film = Film::new();
    film.play(1.0, &[(1, "anna")]);
    film.now += 60_000;
    assert_eq!(film.play(1.0, &[(1, "anna")]), []);
}

#[test]
fn a_clock_that_is_set_changes_no_duration() {
    let mut film = Film::new();
    film.play(1.0, &[(1, "anna")]);
    film.start.time -= jiff::Span::new().hours(5);
    film.play(1.0, &[(1, "anna")]);
    let left = film.play(6.0, &[]);
    assert!(
        matches!(left.as_slice(), [(_, Happening::Left { duration, .. })] if *duration == 1.9),
        "{left:?}"
    );
}

#[test]
fn who_comes_back_on_the_same_track_is_there_since_then() {
    let mut film = Film::new();
    film.play(1.0, &[(1, "anna")]);
    film.play(8.0, &[]);
    assert_eq!(film.play(1.0, &[(1, "anna")]), [(90, appeared("anna", 1))]);
    let left = film.play(6.0, &[]);
    assert!(
        matches!(left.as_slice(), [(_, Happening::Left { duration, .. })] if *duration == 0.9),
        "{left:?}"
    );
    // Its track ends while nobody is there.
    assert_eq!(film.end_track(1, "anna"), []);
}
