//! Memory layouts of a frame: strides, offsets, separate planes, and wrong metadata.

use super::*;

/// The frame with separate memory for each plane. It ends with the last pixel of the plane's last
/// row.
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

/// A frame of another plugin with wrong metadata is never read or written beyond its end.
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
        ((640, 360), last, [640, 320, 320], "but only 1 are mapped"),
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
    // All elements map frames with the same function. Those without a model start at once.
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

/// GStreamer's functions store pixels of four bytes as one word.
#[test]
fn rows_that_cannot_be_written_are_an_error() {
    face_tests::init();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Bgrx, 640, 360).build();
    let info = info.expect("a valid size");
    let caps = info.to_caps().expect("caps");
    for (offset, is_fine) in [(4, true), (1, false)] {
        let mut buffer = gst::Buffer::with_size(info.size() + 8).expect("memory");
        describe(&mut buffer, &info, (640, 360), &[offset], &[2560]);
        buffer.make_mut().set_pts(gst::ClockTime::ZERO);
        face_tests::feed::add_region(&mut buffer, "face", (100, 80, 90, 120), 1);
        let feed = Feed::new("facemetaoverlay", &caps).expect("starts");
        assert_eq!(feed.push(buffer).is_ok(), is_fine, "{offset}");
        match feed.running.next() {
            Ok(frame) => assert!(is_fine && frame.is_some()),
            Err(error) => {
                let error = error.to_string();
                assert!(!is_fine && error.contains("multiples"), "{error}");
            }
        }
    }
}

/// With a sink that crops by metadata, upstream would send frames larger than their caps.
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

/// The stages read the same samples in every layout: results are equal to the last bit.
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
