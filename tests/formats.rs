//! The same picture in many pixel formats, memory layouts and colour spaces gives the same faces.

mod layout;

use face_meta::Face;
use face_tests::feed::Feed;
use face_tests::{Picture, best, cosine};
use gst::prelude::*;
use gst_video::prelude::*;

/// A picture, odd in both directions so that subsampled planes end in half a sample, and the size
/// at which the detector sees it: shrunk, or unchanged.
///
/// The pictures are cropped so that no face has two almost equal candidates a few pixels apart. The
/// last bit of a pixel would decide between them.
struct Subject {
    picture: Picture,
    detector: &'static str,
}

fn subjects() -> [Subject; 2] {
    [
        Subject {
            picture: Picture::open("t1.jpg").crop(0, 0, 1277, 883),
            detector: "facedetector",
        },
        Subject {
            picture: Picture::open("multi_face.jpg").crop(1, 0, 999, 667),
            detector: "facedetector inference-size=0",
        },
    ]
}

/// A frame in some format and layout.
struct Input {
    caps: gst::Caps,
    buffer: gst::Buffer,
}

impl Input {
    fn new(sample: &gst::Sample, layout: Layout) -> Self {
        let mut buffer = layout(sample);
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        Self {
            caps: sample.caps_owned().expect("caps"),
            buffer,
        }
    }

    fn run(&self, elements: &str, buffer: gst::Buffer) -> Vec<Face> {
        let feed = Feed::new(elements, &self.caps).expect("the format is accepted");
        feed.pass(buffer).expect("the frame passes").faces
    }

    fn detect(&self, detector: &str) -> Vec<Face> {
        self.run(detector, self.buffer.clone())
    }

    /// Embedding, age and gender of faces at these places.
    fn examine(&self, faces: &[Face]) -> Vec<Face> {
        let mut buffer = self.buffer.copy();
        let info = gst_video::VideoInfo::from_caps(&self.caps).expect("video");
        for face in faces {
            face_meta::add(buffer.make_mut(), (info.width(), info.height()), face).expect("inside");
        }
        self.run(
            &format!(
                "facerecognizer attach-embedding=true ! faceagegender {}",
                face_tests::TELL_ALL
            ),
            buffer,
        )
    }
}

/// Lays out the memory of a frame.
type Layout = fn(&gst::Sample) -> gst::Buffer;

fn tight(sample: &gst::Sample) -> gst::Buffer {
    sample.buffer_owned().expect("a buffer")
}

/// The frame in a buffer with separate planes and with longer rows than the caps say, with junk in
/// the gaps.
fn padded(sample: &gst::Sample) -> gst::Buffer {
    let caps = sample.caps().expect("caps");
    let info = gst_video::VideoInfo::from_caps(caps).expect("video");
    let source = sample.buffer().expect("a buffer");
    let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(source, &info).expect("a frame");
    let planes = frame.n_planes() as usize;
    let mut bytes = vec![0xe7; 52];
    let (mut offsets, mut strides) = (Vec::new(), Vec::new());
    for plane in 0..planes {
        let stride = frame.plane_stride()[plane] as usize;
        let component = (0..frame.n_components())
            .find(|&c| info.format_info().plane()[c as usize] as usize == plane)
            .expect("every plane has a component");
        offsets.push(bytes.len());
        strides.push((stride + 44) as i32);
        let data = frame.plane_data(plane as u32).expect("a plane");
        for row in 0..frame.comp_height(component) as usize {
            bytes.extend_from_slice(&data[row * stride..(row + 1) * stride]);
            bytes.extend([0xe7; 44]);
        }
        bytes.extend(vec![0xe7; 3 * stride + 20]);
    }
    let mut buffer = gst::Buffer::from_mut_slice(bytes);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().expect("only one owner"),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height(),
        &offsets,
        &strides,
    )
    .expect("a valid layout");
    buffer
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

fn ious(faces: &[Face], expected: &[Face]) -> Vec<f64> {
    assert_eq!(faces.len(), expected.len(), "number of faces");
    let iou = |face: &Face| best(&face.rect, faces).map_or(0.0, |(_, iou)| iou);
    expected.iter().map(iou).collect()
}

/// Compares everything that a colour format must preserve with the RGB picture.
fn compare(table: &[&str], layout: Layout) {
    for Subject { picture, detector } in subjects() {
        let rgb = Input::new(&picture.sample(), tight);
        let faces = rgb.detect(detector);
        assert!(faces.len() >= 5, "the pictures show six and five people");
        let known = rgb.examine(&faces);
        for caps in table {
            let sample = picture.converted(caps).expect("videoconvert can");
            let input = Input::new(&sample, layout);
            let found = input.detect(detector);
            let iou = least(ious(&found, &faces).into_iter());
            let marks = |face: &Face| face.landmarks.expect("landmarks");
            let landmarks = faces.iter().map(|face| {
                let (other, _) = best(&face.rect, &found).expect("as many");
                let distance = |(p, q): (&_, _)| face_meta::geometry::Point::distance(*p, q);
                let pairs = marks(face);
                -pairs
                    .iter()
                    .zip(marks(other))
                    .map(distance)
                    .fold(0.0, f64::max)
                    / face.rect.w
            });
            let landmarks = -least(landmarks);
            let examined = input.examine(&faces);
            let values = |face: &Face| face.embedding.clone().expect("an embedding").values;
            let pairs = || examined.iter().zip(&known);
            let embeddings = least(pairs().map(|(a, b)| cosine(&values(a), &values(b))));
            let age = |face: &Face| face.age.expect("an age");
            let ages = -least(pairs().map(|(a, b)| -(age(a) - age(b)).abs()));
            let what = format!(
                "{}x{} {caps}: boxes {iou:.4}, landmarks {landmarks:.4}, embeddings \
                 {embeddings:.4}, ages {ages:.2}",
                picture.width, picture.height
            );
            println!("{what}");
            assert!(iou >= 0.93 && landmarks <= 0.02, "{what}");
            assert!(embeddings > 0.97 && ages < 2.0, "{what}");
            for (a, b) in pairs() {
                let label = |face: &Face| face.gender.clone().expect("a gender").label;
                assert_eq!(label(a), label(b), "{what}");
            }
        }
    }
}

#[test]
fn formats_read_in_place() {
    compare(
        &[
            "format=I420",
            "format=NV12",
            "format=YV12",
            "format=NV21",
            "format=YUY2",
            "format=UYVY",
            "format=Y42B",
            "format=Y444",
            "format=RGB",
            "format=BGR",
            "format=RGBA",
            "format=BGRA",
            "format=BGRx",
            "format=xRGB",
            "format=GBR",
        ],
        tight,
    );
}

#[test]
fn formats_that_are_unpacked() {
    compare(
        &[
            "format=I420_10LE",
            "format=I420_10BE",
            "format=P010_10LE",
            "format=I422_10LE",
            "format=v210",
            "format=RGB16",
            "format=ARGB64",
            "format=NV12_64Z32",
        ],
        tight,
    );
}

/// Without colour the detector sees another picture. Its boxes move a little, but they are exactly
/// those of the same grey picture in RGB.
#[test]
fn grey() {
    for Subject { picture, detector } in subjects() {
        let faces = Input::new(&picture.sample(), tight).detect(detector);
        for (format, layout) in [
            ("GRAY8", tight as Layout),
            ("GRAY8", padded),
            ("GRAY8,colorimetry=(string)1:4:0:0", padded),
            ("GRAY16_LE", tight),
        ] {
            let sample = picture
                .converted(&format!("format={format}"))
                .expect("videoconvert can");
            let found = Input::new(&sample, layout).detect(detector);
            let coloured = ious(&found, &faces);
            let mean = coloured.iter().sum::<f64>() / coloured.len() as f64;
            let worst = least(coloured.into_iter());
            let caps = picture.caps();
            let rgb = gst_video::convert_sample(&sample, &caps, Some(face_tests::TIMEOUT))
                .expect("videoconvert can");
            let same = least(ious(&found, &Input::new(&rgb, tight).detect(detector)).into_iter());
            println!(
                "{format}: {mean:.4}, worst {worst:.4} to the coloured, {same:.4} to the grey"
            );
            assert!(same > 0.99, "{format}");
            assert!(mean > 0.92 && worst > 0.85, "{format}");
        }
    }
}

#[test]
fn colour_matrix_and_range() {
    // range:matrix:transfer:primaries; 1 = full range, 3 = BT.709, 4 = BT.601, 6 = BT.2020.
    compare(
        &[
            "format=I420,colorimetry=bt601",
            "format=I420,colorimetry=bt709",
            "format=NV12,colorimetry=bt709",
            "format=I420,colorimetry=(string)1:4:0:0",
            "format=I420,colorimetry=(string)1:3:5:1",
            "format=YUY2,colorimetry=(string)1:3:5:1",
            "format=I420,colorimetry=(string)2:6:5:1",
            "format=I420_10LE,colorimetry=(string)1:3:5:1",
        ],
        tight,
    );
}

/// Done by hand, since videoconvert does not change the range of RGB.
#[test]
fn rgb_of_limited_range() {
    let [_, Subject { picture, detector }] = subjects();
    let full = Input::new(&picture.sample(), tight);
    let mut limited = picture;
    for value in &mut limited.data {
        *value = (16.0 + f64::from(*value) * 219.0 / 255.0).round() as u8;
    }
    let mut input = Input::new(&limited.sample(), tight);
    input.caps.make_mut().set("colorimetry", "2:1:7:1");
    let (faces, found) = (full.detect(detector), input.detect(detector));
    let iou = least(ious(&found, &faces).into_iter());
    let [a, b] = [full.examine(&faces), input.examine(&faces)];
    let age = |face: &Face| face.age.expect("an age");
    let ages = -least(a.iter().zip(&b).map(|(a, b)| -(age(a) - age(b)).abs()));
    println!("limited RGB: boxes {iou:.4}, ages {ages:.2}");
    assert!(iou > 0.97 && ages < 1.0);
}

/// The same bytes with another colorimetry are another picture, so the test above can fail.
#[test]
fn matrix_and_range_matter() {
    let [subject, _] = subjects();
    let sample = subject
        .picture
        .converted("format=I420,colorimetry=(string)1:4:0:0")
        .expect("videoconvert can");
    let mut input = Input::new(&sample, tight);
    let faces = input.detect(subject.detector);
    let mut values = |colorimetry: &str| {
        input.caps.make_mut().set("colorimetry", colorimetry);
        let face = input.examine(&faces).remove(0);
        face.embedding.expect("an embedding").values
    };
    let right = values("1:4:0:0");
    for wrong in ["2:4:0:0", "1:3:5:1"] {
        let similarity = cosine(&right, &values(wrong));
        println!("read as {wrong}: {similarity:.5}");
        assert!(similarity < 0.9999, "{wrong} is read as 1:4:0:0");
    }
}
