use super::*;
use crate::facemetaoverlay::color::UNTRACKED;

fn mark(rect: Rect, name: &str) -> Mark {
    Mark {
        rect,
        color: UNTRACKED,
        predicted: false,
        outline: true,
        landmarks: None,
        label: Label {
            name: name.into(),
            detail: String::new(),
            second: String::new(),
        },
    }
}

fn draw(size: (u32, u32), marks: &[Mark]) -> Vec<Overlay> {
    let overlays = Painter::default()
        .draw(size, PixelShape::SQUARE, marks, "Sans", 1.0)
        .expect("cairo draws");
    for overlay in &overlays {
        let surface = &overlay.surface;
        assert!(surface.width > 0 && surface.height > 0);
        assert!(overlay.x + surface.width <= size.0, "inside of the frame");
        assert!(overlay.y + surface.height <= size.1, "inside of the frame");
        let bytes = (surface.width * surface.height * 4) as usize;
        assert_eq!((**surface).as_ref().len(), bytes);
    }
    overlays
}

fn area(overlay: &Overlay) -> Area {
    let size = (overlay.surface.width, overlay.surface.height);
    Area::new(
        overlay.x as i32,
        overlay.y as i32,
        (size.0 as i32, size.1 as i32),
    )
}

/// The alpha value at a pixel of the frame.
fn alpha(overlay: &Overlay, x: u32, y: u32) -> u8 {
    let at = ((y - overlay.y) * overlay.surface.width + (x - overlay.x)) * 4;
    let bytes = (*overlay.surface).as_ref();
    let pixel = [0, 1, 2, 3].map(|i| bytes[at as usize + i]);
    (u32::from_ne_bytes(pixel) >> 24) as u8
}

#[test]
fn an_outline_is_as_large_as_its_box() {
    let found = draw((640, 480), &[mark(Rect::new(100.0, 100.0, 80.0, 90.0), "")]);
    assert_eq!(found.len(), 1);
    assert_eq!(area(&found[0]), Area::new(98, 98, (84, 94)));
    assert_eq!(alpha(&found[0], 140, 145), 0, "clear in the middle");
    assert_eq!(alpha(&found[0], 140, 100), 255, "opaque on the line");
}

#[test]
fn sizes_follow_the_frame() {
    let small = Metrics::new((320, 240), 1.0);
    let hd = Metrics::new((1920, 1080), 1.0);
    let uhd = Metrics::new((3840, 2160), 1.0);
    assert_eq!(small.line, 2.0);
    assert!(small.font >= 11.0 && hd.font > 20.0);
    assert_eq!(uhd.font, 2.0 * hd.font);
    assert!(uhd.line > hd.line);
    assert_eq!(hd, Metrics::new((1080, 1920), 1.0));
    assert!(Metrics::new((1920, 1080), 2.0).font > hd.font);
}

#[test]
fn boxes_that_are_none_draw_nothing() {
    for rect in [
        Rect::new(f64::NAN, 0.0, 10.0, 10.0),
        Rect::new(0.0, 0.0, f64::INFINITY, 10.0),
        Rect::new(10.0, 10.0, 0.0, 10.0),
        Rect::new(10.0, 10.0, -5.0, 10.0),
        Rect::new(-100.0, 10.0, 50.0, 50.0),
        Rect::new(10.0, 1e9, 50.0, 50.0),
    ] {
        assert!(draw((320, 240), &[mark(rect, "x")]).is_empty(), "{rect:?}");
    }
    for size in [(0, 0), (0, 100), (1, 1)] {
        draw(size, &[mark(Rect::new(-5.0, -5.0, 50.0, 50.0), "x")]);
    }
}

#[test]
fn boxes_beyond_the_frame_are_clipped() {
    for rect in [
        Rect::new(-20.5, -30.0, 60.0, 60.0),
        Rect::new(300.0, 220.0, 60.0, 60.0),
        Rect::new(-1e7, -1e7, 2e7, 2e7),
        Rect::new(0.5, 0.5, f64::MAX, f64::MAX),
        Rect::new(-10.0, -10.0, 340.0, 260.0),
        Rect::new(5.2, 5.2, 0.3, 0.3),
    ] {
        for (w, h) in [(320, 240), (1, 1), (3, 2), (17, 300), (300, 17)] {
            for predicted in [false, true] {
                let mut mark = mark(rect, "somebody");
                mark.predicted = predicted;
                mark.landmarks = Some([rect.center(); 5]);
                draw((w, h), &[mark]);
            }
        }
    }
    let labelled = draw(
        (320, 240),
        &[mark(Rect::new(-20.0, -30.0, 60.0, 60.0), "x")],
    );
    assert_eq!(labelled.len(), 2);
}

#[test]
fn landmarks_that_are_none_are_left_out() {
    let rect = Rect::new(100.0, 100.0, 40.0, 40.0);
    let mut odd = mark(rect, "");
    odd.outline = false;
    odd.landmarks = Some([Point::new(f64::NAN, 110.0); 5]);
    assert!(draw((320, 240), &[odd.clone()]).is_empty());
    odd.landmarks = Some([Point::new(1e12, -1e12); 5]);
    assert!(draw((320, 240), &[odd.clone()]).is_empty());
    odd.landmarks = Some([Point::new(110.0, 115.0); 5]);
    let found = draw((320, 240), &[odd]);
    assert_eq!(found.len(), 1);
    assert!(found[0].surface.width < 10);
    assert_ne!(alpha(&found[0], 110, 115), 0);
}

#[test]
fn labels_stay_inside_and_apart() {
    let size = (640, 360);
    let boxes = [
        (0.0, 0.0),
        (600.0, 0.0),
        (0.0, 320.0),
        (600.0, 320.0),
        (300.0, 100.0),
        (310.0, 105.0),
        (320.0, 110.0),
    ];
    let marks: Vec<Mark> = boxes
        .iter()
        .map(|&(x, y)| mark(Rect::new(x, y, 40.0, 40.0), "a name"))
        .collect();
    let found = draw(size, &marks);
    assert_eq!(found.len(), 2 * marks.len());
    let labels: Vec<Area> = found[marks.len()..].iter().map(area).collect();
    for (i, a) in labels.iter().enumerate() {
        for b in &labels[..i] {
            assert_eq!(a.overlap(*b), 0, "{a:?} {b:?}");
        }
    }
}

#[test]
fn a_label_stands_above_its_face_or_below() {
    let frame = Area::new(0, 0, (640, 360));
    let size = (60, 20);
    let middle = Area::new(300, 100, (40, 40));
    assert_eq!(
        place(size, middle, &[], &[], frame, 4),
        Area::new(300, 78, size)
    );
    let top = Area::new(300, 0, (40, 40));
    assert_eq!(
        place(size, top, &[], &[], frame, 4),
        Area::new(300, 42, size)
    );
    let all = frame;
    let inside = place(size, all, &[], &[], frame, 4);
    assert_eq!(inside.overlap(all), 60 * 20);
    let taken = Area::new(300, 78, size);
    assert_eq!(
        place(size, middle, &[taken], &[], frame, 4).overlap(taken),
        0
    );
}

#[test]
fn any_name_can_be_drawn() {
    let rect = Rect::new(100.0, 100.0, 100.0, 100.0);
    for name in [
        "<b>Tom</b> & Jerry",
        "שלום עולם",
        "مرحبا",
        "👩‍👩‍👧 太郎",
        "\u{202e}reversed",
        "\u{300}\u{301}",
        " ",
        &"very long ".repeat(50),
    ] {
        for size in [(320, 240), (1920, 1080)] {
            let mut mark = mark(rect, name);
            mark.label.detail = "83 %".into();
            mark.label.second = "27, female".into();
            let found = draw(size, &[mark]);
            assert_eq!(found.len(), 2, "{name}");
            assert!(found[1].surface.width < size.0);
        }
    }
}

#[test]
fn a_label_is_drawn_once() {
    let mut painter = Painter::default();
    let mut draw = |name: &str| {
        let marks = [mark(Rect::new(100.0, 100.0, 80.0, 90.0), name)];
        let found = painter.draw((640, 480), PixelShape::SQUARE, &marks, "Sans", 1.0);
        found.expect("cairo draws").swap_remove(1).surface
    };
    let first = draw("penny");
    assert!(Arc::ptr_eq(&first, &draw("penny")));
    assert!(!Arc::ptr_eq(&first, &draw("amy")));
    for _ in 0..=FORGET {
        draw("amy");
    }
    assert_eq!(painter.labels.len(), 1, "penny is forgotten");
}

#[test]
fn more_faces_than_can_be_told_apart_are_left_out() {
    let marks = |count: usize, side: f64| {
        let rect = |i: usize| Rect::new((i % 100) as f64, (i / 100) as f64, side, side);
        (0..count).map(|i| mark(rect(i), "")).collect::<Vec<_>>()
    };
    // Each mark is as large as the frame.
    let found = draw((640, 480), &marks(200, 9000.0));
    assert_eq!(found.len() as i64, MOST_FRAMES);
    let found = draw((640, 480), &marks(MOST_MARKS + 5, 3.0));
    assert_eq!(found.len(), MOST_MARKS);
}

#[test]
fn labels_keep_their_proportions_on_pixels_that_are_not_square() {
    let label = |size, numerator, denominator| {
        let marks = [mark(Rect::new(100.0, 100.0, 60.0, 60.0), "Anna")];
        let found = Painter::default()
            .draw(
                size,
                PixelShape::new(numerator, denominator),
                &marks,
                "Sans",
                1.0,
            )
            .expect("cairo draws");
        let surface = &found.last().expect("a label").surface;
        (surface.width, surface.height)
    };
    let (width, height) = label((640, 480), 1, 1);
    let close = |a: u32, b: u32| a.abs_diff(b) <= 1;
    let (narrow, same) = label((320, 480), 2, 1);
    assert!(
        close(narrow, width / 2) && close(same, height),
        "{narrow}x{same}"
    );
    let (same, low) = label((640, 240), 1, 2);
    assert!(close(same, width) && close(low, height / 2), "{same}x{low}");
}
