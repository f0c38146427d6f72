//! Every supported format: faces are hidden in place, and nothing else changes.

use super::*;

/// The formats of the element's pads.
fn formats() -> Vec<String> {
    face_tests::init();
    let factory = gst::ElementFactory::find("facemetablur").expect("registered");
    let templates = factory.static_pad_templates();
    let caps = templates.iter().next().expect("a pad").caps();
    let formats = caps.structure(0).expect("one").get::<gst::List>("format");
    let names = formats.expect("formats");
    names.iter().map(|name| name.get().expect("text")).collect()
}

#[test]
fn every_format_is_hidden_in_place() {
    let formats = formats();
    for name in [
        "I420",
        "NV12",
        "YV12",
        "NV21",
        "YUY2",
        "UYVY",
        "RGB",
        "BGR",
        "RGBA",
        "BGRA",
        "RGBx",
        "BGRx",
        "GRAY8",
        "Y444",
        "I420_10LE",
        "P010_10LE",
    ] {
        assert!(formats.iter().any(|f| f == name), "{name}");
    }
    let picture = Picture::open("t1.jpg").crop(440, 220, 301, 203);
    let rect = Rect::new(81.3, 41.8, 90.0, 70.0);
    let (x, y, w, h) = (81..172, 41..112, 301, 203);
    for format in &formats {
        let sample = picture
            .converted(&format!("format={format}"))
            .expect("videoconvert can");
        let before = Frame::new(sample.clone()).expect("a frame");
        let feed = Feed::new(
            "facemetablur hold=0 name=b margin=0",
            &sample.caps_owned().expect("caps"),
        )
        .expect("the format is accepted");
        let show = |mode: &str| {
            feed.set("b", "mode", mode);
            feed.set("b", "color", "0xff20c040");
            let mut buffer = sample
                .buffer_owned()
                .expect("a buffer")
                .copy_deep()
                .expect("memory");
            let face = Face {
                rect,
                ..Default::default()
            };
            face_meta::add(buffer.make_mut(), (w, h), &face).expect("inside");
            buffer.make_mut().set_pts(gst::ClockTime::ZERO);
            pixels(&feed.pass(buffer).expect("passes"))
        };
        let (plain, filled, blurred) = (pixels(&before), show("fill"), show("blur"));
        let grey = format.starts_with("GRAY");
        for (i, pixel) in plain.iter().enumerate() {
            let (px, py) = (i as u32 % w, i as u32 / w);
            // Chroma samples of four pixels, and the converter's interpolation between them.
            let near = |v: u32, range: &std::ops::Range<u32>, by: u32| {
                v + by >= range.start && v < range.end + by
            };
            if near(px, &x, 0) && near(py, &y, 0) {
                let [r, g, b] = filled[i].map(i32::from);
                let right = (r - 0x20).abs() <= 6 && (g - 0xc0).abs() <= 6 && (b - 0x40).abs() <= 6;
                // Samples at the edge are interpolated with the outside.
                let inner =
                    px > x.start + 4 && px + 4 < x.end && py > y.start + 4 && py + 4 < y.end;
                let right = right || grey && (r - g).abs() < 3 && (90..150).contains(&r);
                assert!(right || !inner, "{format} at {px},{py}: {:?}", filled[i]);
            } else if !(near(px, &x, 8) && near(py, &y, 8)) {
                assert_eq!(
                    (filled[i], blurred[i]),
                    (*pixel, *pixel),
                    "{format} at {px},{py}"
                );
            }
        }
        let detail = |pixels: &[[u8; 3]]| -> i32 {
            let rows = (y.start + 8..y.end - 8).map(|y| y * w);
            let steps =
                rows.flat_map(|row| (x.start + 8..x.end - 8).map(move |x| (row + x) as usize));
            steps
                .map(|i| (i32::from(pixels[i][1]) - i32::from(pixels[i + 1][1])).abs())
                .sum()
        };
        assert!(detail(&blurred) * 2 < detail(&plain), "{format} is blurred");
    }
}

#[test]
fn alpha_and_padding_stay() {
    let picture = Picture::open("t1.jpg").crop(0, 0, 101, 75);
    for mode in ["blur", "pixelate", "fill"] {
        let sample = picture.converted("format=RGBA").expect("videoconvert can");
        let data: Vec<u8> = (0..100 * 90 * 8_usize)
            .map(|i| (i * 7 % 251) as u8)
            .collect();
        let mut buffer = gst::Buffer::from_mut_slice(data.clone());
        let (offset, stride) = (52, 101 * 4 + 60);
        gst_video::VideoMeta::add_full(
            buffer.make_mut(),
            gst_video::VideoFrameFlags::empty(),
            gst_video::VideoFormat::Rgba,
            101,
            75,
            &[offset],
            &[stride as i32],
        )
        .expect("a valid layout");
        add_region(&mut buffer, "face", (60, 50, 41, 25), 1);
        let feed = Feed::new(
            &format!("facemetablur margin=0 mode={mode}"),
            &sample.caps_owned().expect("caps"),
        )
        .expect("starts");
        let frame = feed.pass(buffer).expect("passes");
        let map = frame
            .sample
            .buffer()
            .expect("one")
            .map_readable()
            .expect("maps");
        let mut changed = 0;
        for (i, (a, b)) in data.iter().zip(map.iter()).enumerate() {
            let at = i.wrapping_sub(offset);
            let (row, column) = (at / stride, at % stride / 4);
            let inside = i >= offset && (50..75).contains(&row) && (60..101).contains(&column);
            if !inside || at % stride % 4 == 3 {
                assert_eq!(a, b, "{mode}: byte {i}");
            }
            changed += usize::from(a != b);
        }
        assert!(changed > 41 * 25 * 2, "{mode}: {changed}");
    }
}
