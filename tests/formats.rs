//! The same picture in many pixel formats, memory layouts and colour spaces gives the same faces.

use face_core::meta::{self, Face};
use face_tests::feed::Feed;
use face_tests::{Picture, best, cosine};
use gst::prelude::*;
use gst_video::prelude::*;

/// A picture, odd in both directions so that subsampled planes end in half a sample, and the size
/// at which the detector sees it: made smaller, or as it is.
///
/// The cuts are such that for no face two candidates of the detector are about equal: there the
/// last bit of a pixel decides which of them, a few pixels apart, stays.
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
            meta::add(buffer.make_mut(), (info.width(), info.height()), face).expect("inside");
        }
        self.run(
            "facerecognizer attach-embedding=true ! faceagegender",
            buffer,
        )
    }
}

/// How the memory of a frame is laid out.
type Layout = fn(&gst::Sample) -> gst::Buffer;

fn tight(sample: &gst::Sample) -> gst::Buffer {
    sample.buffer_owned().expect("a buffer")
}

fn least(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

fn ious(faces: &[Face], expected: &[Face]) -> Vec<f64> {
    assert_eq!(faces.len(), expected.len(), "number of faces");
    let iou = |face: &Face| best(&face.rect, faces).map_or(0.0, |(_, iou)| iou);
    expected.iter().map(iou).collect()
}

/// Everything that a colour format must keep, compared with the RGB picture.
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
                let distance = |(p, q): (&_, _)| face_core::geometry::Point::distance(*p, q);
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

/// Without colour the detector sees another picture: its boxes move a little, but they are exactly
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

/// By hand, as videoconvert leaves the range of RGB alone.
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

/// The same bytes under other colorimetry are another picture: the test above can tell.
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

/// The frame in a buffer whose planes lie apart, in rows that are longer than the caps say, with
/// junk in between.
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

/// The frame with a memory for each plane, which ends with the last pixel of its last row.
fn apart(sample: &gst::Sample) -> gst::Buffer {
    let info = gst_video::VideoInfo::from_caps(sample.caps().expect("caps")).expect("video");
    let frame = face_core::frame::map(sample.buffer().expect("a buffer"), &info).expect("maps");
    let format = info.format_info();
    let mut buffer = gst::Buffer::new();
    let (mut offsets, mut end) = (Vec::new(), 0);
    for plane in 0..info.n_planes() {
        let components = (0..format.n_components() as u8)
            .filter(|&c| format.plane()[usize::from(c)] == plane)
            .map(|c| {
                let row = format.scale_width(c, info.width()) as i32;
                (
                    format.scale_height(c, info.height()) as usize,
                    (row * format.pixel_stride()[usize::from(c)]) as usize,
                )
            });
        let (rows, row) = components.max().expect("every plane has a component");
        let (data, stride) = (frame.plane(plane as usize), frame.stride(plane as usize));
        let bytes = data[..(rows - 1) * stride + row].to_vec();
        offsets.push(end);
        end += bytes.len();
        let memory = gst::Memory::from_mut_slice(bytes);
        buffer.make_mut().append_memory(memory);
    }
    describe(
        &mut buffer,
        &info,
        (info.width(), info.height()),
        &offsets,
        info.stride(),
    );
    buffer
}

fn describe(
    buffer: &mut gst::Buffer,
    info: &gst_video::VideoInfo,
    (width, height): (u32, u32),
    offsets: &[usize],
    strides: &[i32],
) {
    gst_video::VideoMeta::add_full(
        buffer.make_mut(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        width,
        height,
        offsets,
        strides,
    )
    .expect("any numbers will do");
}

/// A frame of another plugin, whose metadata say what is not so: never read or written beyond its end.
#[test]
fn metadata_that_does_not_fit_is_an_error() {
    let sample = Picture::black(640, 360)
        .converted("format=I420")
        .expect("videoconvert can");
    let caps = sample.caps_owned().expect("caps");
    let info = gst_video::VideoInfo::from_caps(&caps).expect("video");
    let offsets = [0, 230_400, 288_000];
    let last = [0, 230_400, 345_599];
    let cases = [
        ((640, 360), offsets, [2000, 320, 320], "718640 bytes"),
        ((640, 360), offsets, [i32::MAX, 320, 320], "plane 0 takes"),
        ((640, 360), offsets, [640, 320, -320], "negative stride"),
        ((640, 360), offsets, [100, 320, 320], "only 100 bytes apart"),
        ((640, 360), last, [640, 320, 320], "and 1 are there"),
        (
            (640, 360),
            [usize::MAX; 3],
            [640, 320, 320],
            "cannot be mapped",
        ),
        ((640, 5000), offsets, [640, 320, 320], "says 640x5000"),
        ((640, 400), offsets, [640, 320, 320], "says 640x400"),
        ((320, 180), offsets, [640, 320, 320], "says 320x180"),
    ];
    // All map frames by the same function; those without a model start at once.
    let some = &cases[..1];
    for (element, cases) in [
        ("facedetector", some),
        ("facedetector frames-in-flight=2", some),
        ("facerecognizer attach-embedding=true", some),
        ("faceagegender", some),
        ("facemetaoverlay", &cases),
        ("facemetablur", &cases),
        ("facemetablur mode=fill", &cases),
    ] {
        for &(size, offsets, strides, says) in cases {
            let mut buffer = tight(&sample).copy_deep().expect("memory");
            if let Some(own) = buffer.make_mut().meta_mut::<gst_video::VideoMeta>() {
                own.remove().expect("not locked");
            }
            describe(&mut buffer, &info, size, &offsets, &strides);
            buffer.make_mut().set_pts(gst::ClockTime::ZERO);
            face_tests::feed::add_region(&mut buffer, "face", (100, 80, 90, 120), 1);
            let feed = Feed::new(element, &caps).expect("starts");
            let _ = feed.push(buffer);
            feed.eos();
            let error = feed
                .running
                .collect()
                .expect_err("does not fit")
                .to_string();
            println!("{element}: {error}");
            assert!(
                error.contains("345600 bytes does not hold a 640x360 I420"),
                "{error}"
            );
            assert!(error.contains(says), "{error}");
        }
    }
}

/// A sink that crops by metadata would have upstream send frames larger than their caps.
#[test]
fn nobody_is_told_to_crop_by_metadata() {
    let picture = Picture::black(64, 48);
    for element in [
        "facedetector",
        "facerecognizer",
        "faceagegender",
        "facemetaoverlay",
        "facemetablur",
    ] {
        let feed = Feed::new(element, &picture.caps()).expect("starts");
        let sink = feed.running.element("out");
        let pad = sink.static_pad("sink").expect("it has one");
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
            let query = info.query_mut().map(|query| query.view_mut());
            if let Some(gst::QueryViewMut::Allocation(allocation)) = query {
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                allocation.add_allocation_meta::<gst_video::VideoCropMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
        let query = feed.allocation(&picture.caps());
        let crop = query.find_allocation_meta::<gst_video::VideoCropMeta>();
        let strides = query.find_allocation_meta::<gst_video::VideoMeta>();
        assert!(crop.is_none() && strides.is_some(), "{element}");
    }
}

#[test]
fn padded_strides_and_offsets() {
    compare(
        &[
            "format=I420",
            "format=NV12",
            "format=YUY2",
            "format=RGB",
            "format=BGRA",
            "format=GBR",
            "format=I420_10LE",
        ],
        padded,
    );
}

/// The stages read the very same samples whatever the layout: equal to the last bit.
#[test]
fn layout_changes_nothing_at_all() {
    let [_, subject] = subjects();
    for format in ["I420", "NV12", "BGR", "GRAY8", "YUY2", "I420_10LE"] {
        let sample = subject
            .picture
            .converted(&format!("format={format}"))
            .expect("videoconvert can");
        let inputs = [tight, padded, apart].map(|layout: Layout| Input::new(&sample, layout));
        let [a, b, c] = inputs.each_ref().map(|i| i.detect(subject.detector));
        assert!(a.len() == 5 && a == b && a == c, "{format}");
        let [d, e, f] = inputs.each_ref().map(|i| i.examine(&a));
        assert!(d == e && d == f, "{format}");
    }
}
