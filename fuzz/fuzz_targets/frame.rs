//! Frames as other plugins may describe them: any `GstVideoMeta` over any memory, in any raw
//! format. They are mapped, sampled, and sent through the elements that write into frames. The
//! memory lies between inaccessible pages, so that overruns of GStreamer's own functions are found,
//! too.
#![no_main]

use std::cell::RefCell;
use std::sync::Once;

use arbitrary::{Arbitrary, Unstructured};
use face_core::frame;
use face_core::image::{Picture, PixelShape, Sampler, warp_rows};
use face_core::model::{ColorOrder, Dimension, Input};
use face_meta::geometry::Similarity;
use gst_check::Harness;
use gst_video::{VideoFormat, VideoInfo, VideoRegionOfInterestMeta};
use libfuzzer_sys::fuzz_target;

/// The largest width and height.
const MOST: u32 = 140;

/// The most bytes of a buffer.
const MOST_BYTES: usize = 1 << 20;

#[derive(Debug, Arbitrary)]
enum Number {
    /// GStreamer's own layout.
    Own,
    More(u8),
    Less(u8),
    Any(i32),
    /// Tiles across and down.
    Tiles(u8, u8),
}

impl Number {
    fn get(&self, own: i64) -> i64 {
        match *self {
            Self::Own => own,
            Self::More(by) => own + i64::from(by),
            Self::Less(by) => own - i64::from(by),
            Self::Any(value) => value.into(),
            Self::Tiles(across, down) => i64::from(across) | i64::from(down) << 16,
        }
    }
}

#[derive(Debug, Arbitrary)]
struct Plane {
    offset: Number,
    stride: Number,
}

#[derive(Debug, Arbitrary)]
struct Meta {
    width: Number,
    height: Number,
    other_format: Option<u8>,
    planes: [Plane; 4],
}

#[derive(Debug, Arbitrary)]
struct Frame {
    format: u8,
    size: (u8, u8),
    interlaced: bool,
    meta: Option<Meta>,
    /// Total bytes of all memories.
    bytes: Number,
    /// Where one memory ends and the next begins, in 256ths.
    cuts: Vec<u8>,
    /// Whether the memory begins at a page boundary, or ends at one.
    at_start: bool,
    regions: [(u8, u8, u8, u8); 2],
    warp: [i8; 4],
    rows: (u8, u8),
    /// Pixel aspect ratio.
    par: (u8, u8),
}

/// Memory between two inaccessible pages.
struct Guarded {
    pages: *mut u8,
    length: usize,
    data: *mut u8,
    bytes: usize,
}

// SAFETY: the memory has no other owner.
unsafe impl Send for Guarded {}

const PAGE: usize = 4096;

impl Guarded {
    fn new(bytes: usize, at_start: bool) -> Self {
        let length = bytes.next_multiple_of(PAGE) + 2 * PAGE;
        // SAFETY: the pages are new, and those in the middle are made accessible.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let pages = libc::mmap(std::ptr::null_mut(), length, libc::PROT_NONE, flags, -1, 0);
            assert!(pages != libc::MAP_FAILED);
            let pages = pages.cast::<u8>();
            let inside = length - 2 * PAGE;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let done = inside == 0 || libc::mprotect(pages.add(PAGE).cast(), inside, access) == 0;
            assert!(done);
            let skip = if at_start { 0 } else { inside - bytes };
            let data = pages.add(PAGE + skip);
            Self {
                pages,
                length,
                data,
                bytes,
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no longer in use.
        unsafe { libc::munmap(self.pages.cast(), self.length) };
    }
}

impl AsRef<[u8]> for Guarded {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped in `new`.
        unsafe { std::slice::from_raw_parts(self.data, self.bytes) }
    }
}

impl AsMut<[u8]> for Guarded {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: mapped in `new`.
        unsafe { std::slice::from_raw_parts_mut(self.data, self.bytes) }
    }
}

impl Frame {
    fn info(&self) -> Option<VideoInfo> {
        let formats: Vec<VideoFormat> = VideoFormat::iter_raw().collect();
        let format = formats[usize::from(self.format) % formats.len()];
        let (width, height) = (u32::from(self.size.0) % MOST, u32::from(self.size.1) % MOST);
        let mode = match self.interlaced {
            true => gst_video::VideoInterlaceMode::Interleaved,
            false => gst_video::VideoInterlaceMode::Progressive,
        };
        let info = VideoInfo::builder(format, width + 1, height + 1)
            .fps(gst::Fraction::new(25, 1))
            .interlace_mode(mode)
            .par(gst::Fraction::new(i32::from(self.par.0) + 1, i32::from(self.par.1) + 1));
        let caps = info.build().ok()?.to_caps().ok()?;
        VideoInfo::from_caps(&caps).ok()
    }

    fn buffer(&self, info: &VideoInfo) -> gst::Buffer {
        let bytes = self.bytes.get(info.size() as i64);
        let bytes = bytes.clamp(1, MOST_BYTES as i64) as usize;
        let mut ends: Vec<usize> = self
            .cuts
            .iter()
            .take(6)
            .map(|cut| usize::from(*cut) * bytes / 256)
            .collect();
        ends.push(bytes);
        ends.sort_unstable();
        let mut buffer = gst::Buffer::new();
        let target = buffer.make_mut();
        let mut start = 0;
        for end in ends {
            if end > start {
                let memory = Guarded::new(end - start, self.at_start);
                target.append_memory(gst::Memory::from_mut_slice(memory));
            }
            start = end;
        }
        if let Some(meta) = &self.meta {
            let number = |number: &Number, own: usize| number.get(own as i64);
            let own = |plane: usize| (info.offset().get(plane), info.stride().get(plane));
            let mut offsets = [0; 4];
            let mut strides = [0; 4];
            for (i, plane) in meta.planes.iter().enumerate() {
                let (offset, stride) = own(i);
                offsets[i] = number(&plane.offset, offset.copied().unwrap_or(0)) as usize;
                strides[i] = plane.stride.get(stride.copied().unwrap_or(0).into()) as i32;
            }
            let other = meta
                .other_format
                .map(|other| VideoFormat::iter_raw().nth(other.into()));
            let format = other.flatten().unwrap_or(info.format());
            let planes = gst_video::VideoFormatInfo::from_format(format).n_planes() as usize;
            gst_video::VideoMeta::add_full(
                target,
                gst_video::VideoFrameFlags::empty(),
                format,
                number(&meta.width, info.width() as usize) as u32,
                number(&meta.height, info.height() as usize) as u32,
                &offsets[..planes],
                &strides[..planes],
            )
            .expect("any numbers will do");
        }
        for (x, y, w, h) in self.regions {
            let place = (x.into(), y.into(), u32::from(w) + 1, u32::from(h) + 1);
            VideoRegionOfInterestMeta::add(target, face_meta::ROI_TYPE, place);
        }
        buffer
    }

    /// Samples the whole frame, and the pixels of a warp. Returns whether the frame fits its memory
    /// and can be drawn on.
    fn sample(&self, info: &VideoInfo, tools: &mut Tools) -> bool {
        let buffer = self.buffer(info);
        let Ok(frame) = frame::map(&buffer, info) else {
            // GStreamer's own layout fits.
            let own = self.meta.is_none() && buffer.size() >= info.size();
            assert!(!own, "{info:?}");
            return false;
        };
        assert_eq!(
            (frame.width(), frame.height()),
            (info.width(), info.height())
        );
        let sum = |plane: usize| {
            frame
                .plane(plane)
                .iter()
                .fold(0_u8, |sum, v| sum.wrapping_add(*v))
        };
        let sums = [0, 1, 2, 3].map(sum);
        std::hint::black_box(sums);
        let Tools {
            sampler,
            tensor,
            unpacked,
            input,
        } = tools;
        let (first, count) = (usize::from(self.rows.0), usize::from(self.rows.1));
        for rows in [0..info.height() as usize, first..first + count + 1] {
            let picture = Picture::new(&frame, rows, unpacked).expect("all formats are read");
            sampler.letterbox(&picture, (SIDE, SIDE * 3 / 4), input, tensor, (SIDE, SIDE));
        }
        let [a, b, tx, ty] = self.warp.map(f64::from);
        let warp = Similarity {
            a: a / 16.0,
            b: b / 16.0,
            tx,
            ty,
        };
        let rows = warp_rows(&warp, (SIDE, SIDE), PixelShape::of(&info));
        let picture = Picture::new(&frame, rows, unpacked).expect("all formats are read");
        sampler.warp(&picture, &warp, input, tensor, (SIDE, SIDE));
        // Rows that are not aligned to the samples cannot be drawn on.
        frame.is_aligned()
    }
}

const SIDE: usize = 24;

struct Tools {
    sampler: Sampler,
    tensor: Vec<f32>,
    unpacked: Vec<u8>,
    input: Input,
}

struct Elements {
    tools: Tools,
    /// The elements that write, each with its last caps.
    writers: [(Harness, Option<gst::Caps>); 3],
}

impl Elements {
    fn new() -> Self {
        static INIT: Once = Once::new();
        INIT.call_once(|| {
            gst::init().expect("GStreamer starts");
            gstfacemeta::plugin_register_static().expect("the plugin registers");
        });
        let writer = |line: &str| (Harness::new_parse(line), None);
        Self {
            tools: Tools {
                sampler: Sampler::new(),
                tensor: vec![0.0; 3 * SIDE * SIDE],
                unpacked: Vec::new(),
                input: Input {
                    name: "x".into(),
                    shape: [1, 3, SIDE as u32, SIDE as u32].map(Dimension::Fixed),
                    color: ColorOrder::Rgb,
                    mean: [0.0; 3],
                    scale: [1.0; 3],
                    multiple: 1,
                    normalization: Default::default(),
                },
            },
            writers: [
                writer("facemetaoverlay show-landmarks=true"),
                writer("facemetablur hold=0"),
                writer("facemetablur hold=0 mode=fill color=0x80ff00ff shape=ellipse"),
            ],
        }
    }

    fn run(&mut self, frame: &Frame) {
        let Some(info) = frame.info() else { return };
        let can_be_drawn_on = frame.sample(&info, &mut self.tools);
        let caps = info.to_caps().expect("valid");
        for (i, (harness, known)) in self.writers.iter_mut().enumerate() {
            if known.as_ref() != Some(&caps) {
                harness.set_src_caps(caps.clone());
                *known = Some(caps.clone());
            }
            // The blur refuses formats that it does not support.
            let passed = harness.push(frame.buffer(&info)).is_ok();
            let odd = frame::columns(info.format(), info.width()) < info.width();
            assert!(i > 0 || odd || passed || !can_be_drawn_on, "{info:?}");
            // A harness keeps all buffers until they are pulled.
            while harness.try_pull().is_some() {}
            while harness.try_pull_event().is_some() {}
            while harness.try_pull_upstream_event().is_some() {}
        }
    }
}

thread_local! {
    static ELEMENTS: RefCell<Elements> = RefCell::new(Elements::new());
}

fuzz_target!(|data: &[u8]| {
    let mut data = Unstructured::new(data);
    ELEMENTS.with_borrow_mut(|elements| {
        if let Ok(frame) = Frame::arbitrary(&mut data) {
            elements.run(&frame);
        }
    });
});
