//! Fifty faces in one frame.

use std::collections::HashSet;

use face_meta::Face;
use face_meta::geometry::Rect;
use face_tests::feed::{Feed, at};
use face_tests::{Picture, TELL_ALL, best, run_picture};

const COLUMNS: u32 = 10;
const ROWS: u32 = 5;
const CELL: u32 = 128;

/// Ten columns and five rows of faces, cut out of group photographs.
fn crowd() -> Picture {
    let mut cut = Vec::new();
    for name in ["t1.jpg", "multi_face.jpg"] {
        let picture = Picture::open(name);
        for face in run_picture(&picture, "facedetector").expect("runs").faces {
            // 1.4 times the height of the face, so that few neighbours show.
            let side = 1.4 * face.rect.h;
            let center = face.rect.center();
            let limit = |v: f64, size: u32| v.clamp(0.0, f64::from(size) - side) as u32;
            let x = limit(center.x - side / 2.0, picture.width);
            let y = limit(center.y - side / 2.0, picture.height);
            let part = picture.crop(x, y, side as u32, side as u32);
            cut.push(part.resized(CELL, CELL));
        }
    }
    assert_eq!(cut.len(), 11);
    let mut crowd = Picture::black(COLUMNS * CELL, ROWS * CELL);
    for i in 0..COLUMNS * ROWS {
        let face = &cut[i as usize % cut.len()];
        crowd.paste(face, i % COLUMNS * CELL, i / COLUMNS * CELL);
    }
    crowd
}

/// Cells that have the centre of a face in their middle half.
fn cells(faces: &[Face]) -> HashSet<u32> {
    let cell = |i: u32| {
        let (x, y) = (i % COLUMNS * CELL, i / COLUMNS * CELL);
        let inner = Rect::new(x.into(), y.into(), CELL.into(), CELL.into());
        let here = |face: &&Face| {
            let c = face.rect.center();
            let near = |v: f64, from: f64| (v - from - f64::from(CELL) / 2.0).abs() < 32.0;
            near(c.x, inner.x) && near(c.y, inner.y)
        };
        faces.iter().any(|f| here(&f)).then_some(i)
    };
    (0..COLUMNS * ROWS).filter_map(cell).collect()
}

#[test]
fn all_are_found_and_tracked() {
    let crowd = crowd();
    let feed = Feed::new(
        &format!(
            "facedetector inference-size=0 ! facetracker ! \
             facerecognizer attach-embedding=true interval=0 ! faceagegender interval=0 {TELL_ALL}"
        ),
        &crowd.caps(),
    )
    .expect("starts");
    let first = feed.show(&crowd, 0).expect("passes");
    let found = cells(&first.faces).len();
    println!("{found} cells, {} faces", first.faces.len());
    assert!(found >= 48, "{found} of 50");
    let ids: HashSet<i32> = first.faces.iter().map(|f| f.id).collect();
    assert_eq!(ids.len(), first.faces.len());
    let track = |face: &Face| face.track.expect("a track").id;
    for index in 1..5 {
        let frame = feed.show(&crowd, index).expect("passes");
        assert_eq!(frame.faces.len(), first.faces.len());
        for face in &frame.faces {
            let (before, iou) = best(&face.rect, &first.faces).expect("as many");
            assert!(iou > 0.95);
            assert_eq!(track(face), track(before), "nobody moves");
            assert!(face.embedding.is_some() && face.age.is_some());
        }
    }
    // Moves everybody by a few pixels.
    let mut moved = Picture::black(crowd.width, crowd.height);
    moved.paste(&crowd.crop(0, 0, crowd.width - 6, crowd.height - 4), 6, 4);
    let frame = feed.pass(moved.buffer(at(5))).expect("passes");
    let tracks: HashSet<u64> = frame.faces.iter().map(track).collect();
    let same = first.faces.iter().filter(|f| tracks.contains(&track(f)));
    assert_eq!(same.count(), first.faces.len(), "the tracks go on");
    assert!(feed.ended().is_empty());
    assert!(feed.eos());
    assert_eq!(feed.ended().len(), first.faces.len());
}

#[test]
fn the_most_confident_are_kept() {
    let crowd = crowd();
    let run = |properties: &str| {
        let elements = format!("facedetector inference-size=0 {properties}");
        run_picture(&crowd, &elements).expect("runs").faces
    };
    let all = run("");
    let kept = run("max-faces=7");
    assert_eq!(kept.len(), 7);
    let confidence = |face: &Face| face.confidence.expect("a confidence");
    let mut sorted: Vec<f64> = all.iter().map(confidence).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let mut found: Vec<f64> = kept.iter().map(confidence).collect();
    found.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(found, sorted[..7]);
}
