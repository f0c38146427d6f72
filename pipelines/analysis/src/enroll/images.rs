//! Reads photos.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use face_picture::Picture;
use image::imageops;
use image::{Rgb, RgbImage};

/// Reads the photos in order on a separate thread, slightly ahead of the receiver.
pub fn read_ahead(photos: Vec<PathBuf>) -> Receiver<Result<Picture, String>> {
    let (sender, receiver) = sync_channel(1);
    thread::spawn(move || {
        for photo in photos {
            // Fails if nobody waits any more, after Ctrl-C or an error.
            if sender
                .send(face_picture::open(&photo).map_err(|e| e.to_string()))
                .is_err()
            {
                break;
            }
        }
    });
    receiver
}

/// Reads an image of any format, and turns it upright.
pub fn read_image(path: &Path) -> Result<RgbImage, face_picture::Error> {
    Ok(face_picture::open(path)?.image)
}

/// Adds a grey border to a tight crop: half of its size on each side. Large images are reduced
/// first, as a face that fills the image stays large enough.
pub fn padded(image: &RgbImage) -> RgbImage {
    const LONGEST: u32 = 800;
    let (width, height) = image.dimensions();
    let longest = width.max(height);
    let small;
    let image = if longest > LONGEST {
        let scale = |side: u32| (u64::from(side) * u64::from(LONGEST) / u64::from(longest)) as u32;
        small = imageops::thumbnail(image, scale(width).max(1), scale(height).max(1));
        &small
    } else {
        image
    };
    let (width, height) = image.dimensions();
    let mut out = RgbImage::from_pixel(2 * width, 2 * height, Rgb([128; 3]));
    imageops::replace(&mut out, image, (width / 2).into(), (height / 2).into());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_doubles_the_size_and_limits_it() {
        let small = padded(&RgbImage::from_pixel(101, 51, Rgb([1, 2, 3])));
        assert_eq!(small.dimensions(), (202, 102));
        assert_eq!(
            (small.get_pixel(0, 0).0, small.get_pixel(101, 51).0),
            ([128; 3], [1, 2, 3])
        );
        assert_eq!(padded(&RgbImage::new(4000, 2000)).dimensions(), (1600, 800));
        assert_eq!(padded(&RgbImage::new(3000, 1)).dimensions(), (1600, 2));
    }
}
