use super::*;
use crate::record::Track;

/// A track on screen from the first time until the second; its last frame lasts 1.
fn track(id: u64, name: Option<&str>, person: Option<&str>, times: &[(u64, u64)]) -> TrackSummary {
    TrackSummary {
        track: Track {
            track: id,
            first_pts: times.iter().map(|t| 1000 + t.0).min(),
            last_pts: times.iter().map(|t| 999 + t.1).max(),
            frames: 2,
            name: name.map(Into::into),
            age: Some(20.0 + id as f64),
            ..Track::default()
        },
        person: person.map(Into::into),
        screen_time_ns: times.iter().map(|(first, end)| end - first).sum(),
        appearances: times.iter().map(|&(first, end)| [first, end - 1]).collect(),
        ..TrackSummary::default()
    }
}

fn film(tracks: Vec<TrackSummary>) -> Summary {
    let mut film = Summary {
        frames: 100,
        duration_ns: 1000,
        tracks,
        ..Summary::default()
    };
    update(&mut film);
    film
}

fn two_friends() -> Summary {
    film(vec![
        track(1, Some("bob"), None, &[(0, 100)]),
        track(2, Some("ann"), None, &[(50, 300)]),
        track(3, Some(UNKNOWN), None, &[(0, 1000)]),
        track(4, None, None, &[(0, 1000)]),
        // Partly on screen twice at the same time.
        track(5, Some("ann"), None, &[(200, 400), (900, 950)]),
    ])
}

fn names(people: &[Person]) -> Vec<&str> {
    people.iter().map(|person| person.name.as_str()).collect()
}

fn persons(film: &Summary) -> Vec<&str> {
    let persons = film.tracks.iter().map(|track| track.person.as_deref());
    persons.map(|person| person.unwrap_or("-")).collect()
}

#[test]
fn people_are_ranked_by_their_time_on_screen() {
    let film = two_friends();
    assert_eq!(names(&film.people), ["ann", "bob"]);
    let ann = &film.people[0];
    assert_eq!((ann.screen_time_ns, ann.share), (400, 0.4));
    assert_eq!((ann.first_pts, ann.last_pts), (1050, 1949));
    assert_eq!(ann.shown(), [50, 949]);
    assert_eq!(ann.tracks, [2, 5]);
    assert_eq!((ann.age, &ann.gender), (Some(23.5), &None));
    assert_eq!(persons(&film), ["bob", "ann", "-", "-", "ann"]);
    assert!(film.strangers.is_empty());
}

#[test]
fn without_times_frames_are_counted() {
    let mut picture = two_friends();
    (picture.frames, picture.duration_ns) = (1, 0);
    for track in &mut picture.tracks {
        track.track.frames = 1;
        track.screen_time_ns = 0;
        track.appearances.clear();
    }
    update(&mut picture);
    assert_eq!(picture.people[0].name, "ann", "on two tracks");
    let counted = |p: &Person| p.share == 1.0 && p.first_stream_time.is_none();
    assert!(picture.people.iter().all(counted));
}

#[test]
fn strangers_are_numbered_by_their_time_on_screen_and_keep_their_numbers() {
    let mut film = film(vec![
        track(1, None, Some("a"), &[(0, 10)]),
        track(2, Some(UNKNOWN), Some("b"), &[(0, 30)]),
        track(3, None, Some("a"), &[(50, 90)]),
        track(4, None, None, &[(0, 99)]),
    ]);
    assert_eq!(
        persons(&film),
        ["stranger-1", "stranger-2", "stranger-1", "-"]
    );
    assert_eq!(names(&film.strangers), ["stranger-1", "stranger-2"]);
    assert_eq!(film.strangers[0].screen_time_ns, 50);
    film.tracks.remove(2);
    let again = film.clone();
    update(&mut film);
    assert_eq!(film.tracks, again.tracks);
    assert_eq!(names(&film.strangers), ["stranger-2", "stranger-1"]);
}

#[test]
fn a_name_of_one_track_is_that_of_its_group() {
    let mut film = film(vec![
        track(1, None, Some("a"), &[(0, 10)]),
        track(2, Some("ann"), Some("a"), &[(10, 20)]),
        track(3, None, Some("b"), &[(0, 10)]),
    ]);
    assert_eq!(persons(&film), ["ann", "ann", "stranger-1"]);
    assert_eq!(film.people[0].tracks, [1, 2]);
    // Another gallery calls her Eve.
    film.tracks[1].track.name = Some("eve".into());
    update(&mut film);
    assert_eq!(persons(&film), ["eve", "eve", "stranger-1"]);
    // Another one knows nobody, and the next one the stranger.
    film.tracks[1].track.name = Some(UNKNOWN.into());
    update(&mut film);
    assert_eq!(persons(&film), ["stranger-2", "stranger-2", "stranger-1"]);
    film.tracks[2].track.name = Some("ann".into());
    update(&mut film);
    assert_eq!(persons(&film), ["stranger-2", "stranger-2", "ann"]);
}

#[test]
fn nobody_is_on_screen_twice_without_a_name_for_both() {
    // Both were called Ann, and now none is.
    let lost = film(vec![
        track(1, None, Some("ann"), &[(0, 10)]),
        track(2, None, Some("ann"), &[(5, 20)]),
        track(3, None, Some("ann"), &[(10, 40)]),
    ]);
    assert_eq!(persons(&lost), ["stranger-1", "stranger-2", "stranger-1"]);
    // Ann is the other one at that time.
    let found = film(vec![
        track(1, None, Some("a"), &[(0, 10)]),
        track(2, Some("ann"), Some("a"), &[(20, 30)]),
        track(3, Some("ann"), Some("b"), &[(5, 10)]),
    ]);
    assert_eq!(persons(&found), ["stranger-1", "ann", "ann"]);
}

#[test]
fn new_strangers_do_not_take_the_numbers_of_the_folder() {
    let mut film = film(vec![
        track(1, None, Some("stranger-4"), &[(0, 10)]),
        track(2, Some("ann"), None, &[(5, 20)]),
    ]);
    film.shared_strangers = 9;
    film.tracks[1].track.name = None;
    update(&mut film);
    assert_eq!(persons(&film), ["stranger-4", "stranger-10"]);
}

#[test]
fn main_persons_are_so_many_or_those_long_enough_on_screen() {
    let people = two_friends().people;
    let chosen = |text: &str| -> Vec<String> {
        let which = text.parse().expect("valid");
        choose(&people, which).into_iter().collect()
    };
    assert_eq!(chosen("1"), ["ann"]);
    assert_eq!(chosen("9"), ["ann", "bob"]);
    assert_eq!(chosen("40%"), ["ann"]);
    assert_eq!(chosen("0.1"), ["ann", "bob"]);
    assert!(chosen("41 %").is_empty());
    for bad in ["0", "-1", "0%", "101%", "1.5", "", "NaN", "inf", "x"] {
        assert!(bad.parse::<MainPersons>().is_err(), "{bad}");
    }
}
