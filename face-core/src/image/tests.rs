use super::*;
use crate::frame;
use crate::model::{ColorOrder, Dimension, Input};
use face_meta::geometry::Similarity;

fn input() -> Input {
    Input {
        name: "x".into(),
        shape: [1, 3, 8, 8].map(Dimension::Fixed),
        color: ColorOrder::Rgb,
        mean: [0.0; 3],
        scale: [1.0; 3],
        multiple: 1,
        normalization: Default::default(),
    }
}

/// A smooth colour gradient, converted to `format` by GStreamer itself.
fn converted(
    format: gst_video::VideoFormat,
    width: u32,
    height: u32,
) -> (gst::Buffer, gst_video::VideoInfo) {
    gst::init().expect("GStreamer starts");
    let rgb = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .build()
        .expect("a valid size");
    let mut buffer = gst::Buffer::with_size(rgb.size()).expect("memory");
    {
        let buffer = buffer.get_mut().expect("only one owner");
        let mut frame = frame::map_writable(buffer, &rgb).expect("a frame of this size");
        let stride = frame.stride(0);
        let data = frame.plane_mut(0);
        for (y, row) in data.chunks_mut(stride).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(3).take(width as usize).enumerate() {
                pixel.copy_from_slice(&color(x, y, width, height));
            }
        }
    }
    let caps = gst_video::VideoInfo::builder(format, width, height)
        .build()
        .expect("a valid format")
        .to_caps()
        .expect("caps");
    let sample = gst::Sample::builder()
        .buffer(&buffer)
        .caps(&rgb.to_caps().expect("caps"))
        .build();
    let converted =
        gst_video::convert_sample(&sample, &caps, Some(gst::ClockTime::from_seconds(10)))
            .expect("videoconvert knows the format");
    let info = gst_video::VideoInfo::from_caps(converted.caps().expect("caps")).expect("video");
    (converted.buffer_owned().expect("a buffer"), info)
}

fn color(x: usize, y: usize, width: u32, height: u32) -> [u8; 3] {
    let (u, v) = (x as f64 / f64::from(width), y as f64 / f64::from(height));
    [40.0 + 160.0 * u, 60.0 + 140.0 * v, 200.0 - 120.0 * u * v].map(|c| c as u8)
}

fn mean_error(format: gst_video::VideoFormat, size: (u32, u32), target: (usize, usize)) -> f32 {
    let (buffer, info) = converted(format, size.0, size.1);
    let mut unpacked = Vec::new();
    let frame = frame::map(&buffer, &info).expect("a mappable frame");
    let picture = Picture::new(&frame, 0..size.1 as usize, &mut unpacked).expect("readable");
    let mut tensor = vec![0.0; 3 * target.0 * target.1];
    Sampler::new().letterbox(&picture, target, &input(), &mut tensor, target);
    let gray = format.to_string().starts_with("GRAY");
    let mut sum = 0.0;
    for y in 0..target.1 {
        for x in 0..target.0 {
            let sx = (x as f64 + 0.5) / target.0 as f64 * f64::from(size.0) - 0.5;
            let sy = (y as f64 + 0.5) / target.1 as f64 * f64::from(size.1) - 0.5;
            let (u, v) = (sx / f64::from(size.0), sy / f64::from(size.1));
            let mut want =
                [40.0 + 160.0 * u, 60.0 + 140.0 * v, 200.0 - 120.0 * u * v].map(|c| c as f32);
            if gray {
                want = [0.299 * want[0] + 0.587 * want[1] + 0.114 * want[2]; 3];
            }
            for (c, want) in want.iter().enumerate() {
                sum += (tensor[(c * target.1 + y) * target.0 + x] - want).abs();
            }
        }
    }
    sum / (3 * target.0 * target.1) as f32
}

#[test]
fn every_raw_format_gives_the_same_colours() {
    gst::init().expect("GStreamer starts");
    let mut tried = 0;
    for format in gst_video::VideoFormat::iter_raw() {
        let name = format.to_string();
        // Eight colours or 4 bits per channel cannot represent the gradient.
        if ["RGB8P", "RGB15", "BGR15", "RGB16", "BGR16"].contains(&name.as_str()) {
            continue;
        }
        for (size, target) in [
            ((161, 121), (161, 121)),
            ((161, 121), (53, 40)),
            ((192, 108), (32, 18)),
            ((160, 90), (200, 112)),
        ] {
            let error = mean_error(format, size, target);
            // GStreamer 1.22's own VYUY functions mix up the chroma at odd widths.
            let odd_vyuy = name == "VYUY" && size.0 % 2 == 1;
            assert!(
                error < 2.0 || odd_vyuy,
                "{name} {size:?} to {target:?}: mean error {error}"
            );
        }
        tried += 1;
    }
    assert!(tried > 60, "{tried} formats");
}

#[test]
fn matrix_and_range_are_those_of_the_frame() {
    gst::init().expect("GStreamer starts");
    // Pure red in each colorimetry, by its definition.
    for (name, kr, kb, full) in [
        ("bt601", 0.299, 0.114, false),
        ("bt709", 0.2126, 0.0722, false),
        ("1:4:5:1", 0.299, 0.114, true),
        ("bt2020", 0.2627, 0.0593, false),
    ] {
        let colorimetry: gst_video::VideoColorimetry = name.parse().expect("a known name");
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::I420, 4, 4)
            .colorimetry(&colorimetry)
            .build()
            .expect("valid");
        let (y, u, v): (f64, f64, f64) = (kr * 255.0, -kr * 255.0 / (2.0 * (1.0 - kb)), 127.5);
        let code = |luma: f64, chroma: f64, offset: f64, value: f64| {
            (offset
                + value
                    * if full {
                        1.0
                    } else if offset == 16.0 {
                        luma
                    } else {
                        chroma
                    })
            .round()
        };
        let black = if full { 0.0 } else { 16.0 };
        let bytes = [
            if full {
                y.round()
            } else {
                code(219.0 / 255.0, 0.0, black, y)
            },
            code(0.0, 224.0 / 255.0, 128.0, u),
            code(0.0, 224.0 / 255.0, 128.0, v).min(255.0),
        ];
        let to_rgb = ToRgb::new(&info);
        let rgb: Vec<f32> = (0..3)
            .map(|r| {
                (0..3)
                    .map(|c| to_rgb.matrix[r][c] * bytes[c] as f32)
                    .sum::<f32>()
                    + to_rgb.bias[r]
            })
            .collect();
        assert!(
            (rgb[0] - 255.0).abs() < 2.5 && rgb[1].abs() < 2.5 && rgb[2].abs() < 2.5,
            "{name}: {rgb:?}"
        );
    }
}

#[test]
fn thin_lines_do_not_alias() {
    // One column in eight is white: shrunk eight times, every pixel is the mean.
    let (w, h) = (64, 16);
    let data: Vec<u8> = (0..w * h)
        .flat_map(|i| [if i % 8 == 3 { 240 } else { 0 }; 3])
        .collect();
    let picture = Picture::from_rgb(&data, w, h).expect("long enough");
    let mut tensor = vec![0.0; 3 * 8 * 2];
    Sampler::new().letterbox(&picture, (8, 2), &input(), &mut tensor, (8, 2));
    assert!(tensor.iter().all(|v| (v - 30.0).abs() < 1e-3), "{tensor:?}");
    let shrink = Similarity {
        a: 8.0,
        b: 0.0,
        tx: 3.5,
        ty: 3.5,
    };
    Sampler::new().warp(&picture, &shrink, &input(), &mut tensor[..48], (8, 2));
    assert!(tensor.iter().all(|v| (v - 30.0).abs() < 1e-3), "{tensor:?}");
}

#[test]
fn warping_by_the_identity_copies_and_outside_is_black() {
    let data: Vec<u8> = (0..6 * 5 * 3).map(|i| (i * 2) as u8).collect();
    let picture = Picture::from_rgb(&data, 6, 5).expect("long enough");
    let mut tensor = vec![-1.0; 3 * 4 * 4];
    let shift = |tx: f64, ty: f64| Similarity {
        a: 1.0,
        b: 0.0,
        tx,
        ty,
    };
    Sampler::new().warp(&picture, &shift(1.0, 1.0), &input(), &mut tensor, (4, 4));
    for y in 0..4 {
        for x in 0..4 {
            for c in 0..3 {
                let want = f32::from(data[((y + 1) * 6 + x + 1) * 3 + c]);
                assert!((tensor[(c * 4 + y) * 4 + x] - want).abs() < 1e-3);
            }
        }
    }
    for far in [shift(100.0, 0.0), shift(-1e9, 1e9), shift(f64::NAN, 0.0)] {
        Sampler::new().warp(&picture, &far, &input(), &mut tensor, (4, 4));
        assert!(tensor.iter().all(|&v| v == 0.0));
    }
    // Half of it lies outside: the left two columns are black.
    Sampler::new().warp(&picture, &shift(-2.0, 0.0), &input(), &mut tensor, (4, 4));
    assert_eq!(&tensor[..2], [0.0, 0.0]);
    assert!(tensor[17] == 0.0 && tensor[2 + 16] > 0.0);
}

#[test]
fn letterbox_pads_with_black_of_the_model() {
    let data = vec![200u8; 2 * 2 * 3];
    let picture = Picture::from_rgb(&data, 2, 2).expect("long enough");
    let mut tensor = vec![7.0; 3 * 4 * 3];
    let model = Input {
        mean: [100.0; 3],
        scale: [0.5; 3],
        ..input()
    };
    Sampler::new().letterbox(&picture, (2, 2), &model, &mut tensor, (4, 3));
    let row = |y: usize| &tensor[y * 4..y * 4 + 4];
    assert_eq!(row(0), [50.0, 50.0, -50.0, -50.0]);
    assert_eq!(row(2), [-50.0; 4]);
}
