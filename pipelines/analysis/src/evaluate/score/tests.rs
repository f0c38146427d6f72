use super::*;
use crate::record::Face;

/// Labels in MOTChallenge text with a size of 10 x 10 pixels: frame from 0, id, x.
fn truth(labels: &[(u64, u32, f64)]) -> Truth {
    let text: String = labels
        .iter()
        .map(|(frame, id, x)| format!("{},{id},{},1,10,10\n", frame + 1, x + 1.0))
        .collect();
    Truth::read(text.as_bytes(), &HashMap::new()).expect("valid")
}

/// A frame with faces: track, x, name.
fn frame(number: u64, faces: &[(u64, f64, &str)]) -> Frame {
    let faces = faces.iter().map(|(track, x, name)| Face {
        r#box: [*x, 0.0, 10.0, 10.0],
        track: Some(*track),
        name: Some((*name).to_owned()),
        ..Default::default()
    });
    Frame {
        frame: number,
        faces: faces.collect(),
        ..Default::default()
    }
}

fn score(truth: &Truth, frames: &[Frame]) -> Score {
    let mut scorer = Scorer::new(truth, 0.5, true);
    for frame in frames {
        scorer.add(frame).expect("ascending");
    }
    scorer.finish().expect("small")
}

#[test]
fn a_match_is_kept_while_it_overlaps() {
    let truth = truth(&[(0, 1, 0.0), (1, 1, 0.0), (2, 1, 0.0), (3, 1, 0.0)]);
    let frames = [
        frame(0, &[(7, 2.0, "1")]),
        // The other face is nearer, but 7 still overlaps by more than half.
        frame(1, &[(7, 3.0, "1"), (8, 0.0, "1")]),
        frame(2, &[]),
        // 7 is gone: a switch, even though a frame in between was missed.
        frame(3, &[(8, 0.0, "1")]),
    ];
    let total = score(&truth, &frames).total();
    assert_eq!((total.boxes, total.found, total.switches), (4, 3, 1));
    // Tracks 7 and 8 follow it on two frames each.
    assert_eq!((total.id_frames, total.id_faces), (2, 2));
}

#[test]
fn as_many_pairs_as_possible_then_the_closest() {
    // Alone, label 1 would take the face at 1.
    let truth = truth(&[(0, 1, 0.0), (0, 2, 4.0)]);
    let found = score(&truth, &[frame(0, &[(5, 1.0, "1"), (6, -3.0, "2")])]);
    assert_eq!(found.total().found, 2);
}

#[test]
fn names_are_right_where_they_overlap() {
    let truth = truth(&[(0, 1, 0.0), (0, 2, 100.0), (1, 1, 0.0)]);
    let frames = [
        // The right name with little overlap; a wrong name; nobody there.
        frame(0, &[(1, 9.0, "1"), (2, 100.0, "1"), (3, 300.0, "2")]),
        frame(1, &[(1, 0.0, "Unknown")]),
    ];
    let score = score(&truth, &frames);
    let total = score.total();
    assert_eq!((score.faces, total.named, total.named_right), (4, 4, 1));
    assert_eq!((total.boxes, total.boxes_named, total.found), (3, 1, 2));
    assert_eq!(score.people, ["1", "2", "Unknown"]);
    let answers = BTreeMap::from([
        ((Some(0), Answer::NoFace), 1),
        ((Some(1), Answer::Name(0)), 1),
        ((Some(0), Answer::Name(2)), 1),
        ((None, Answer::Name(0)), 1),
        ((None, Answer::Name(1)), 1),
    ]);
    assert_eq!(score.answers, answers);
}

#[test]
fn frames_are_compared_by_number() {
    let labels: Vec<_> = (0..10).map(|f| (f, 1, 0.0)).collect();
    let mut truth = truth(&labels);
    (truth.first, truth.last, truth.step) = (2, Some(9), 2);
    // 4 and 8 are not in the result; 3 was not labelled.
    let frames = [0, 2, 3, 6, 20].map(|n| frame(n, &[(1, 0.0, "1")]));
    let score = score(&truth, &frames);
    assert_eq!((score.frames, score.frames_left_out), (2, 3));
    assert_eq!((score.frames_missing, score.total().boxes), (2, 4));
    assert_eq!((score.faces, score.total().found), (2, 2));
    let mut scorer = Scorer::new(&truth, 0.5, true);
    scorer.add(&frames[1]).expect("the first");
    assert!(scorer.add(&frames[0]).is_err(), "backwards");
}

#[test]
fn hostile_numbers_do_no_harm() {
    let truth = truth(&[(0, 1, 0.0)]);
    let mut odd = frame(0, &[(u64::MAX, 0.0, ""), (1, 0.0, "\u{1b}[31m")]);
    odd.faces[0].r#box = [f64::MAX, f64::MIN, f64::MAX, -1.0];
    odd.faces[1].age = Some(f64::INFINITY);
    odd.width = u32::MAX;
    let last = frame(u64::MAX, &[(1, 0.0, "1")]);
    let score = score(&truth, &[odd, last]);
    assert_eq!((score.total().found, score.total().ages), (1, 0));
}
