//! The two times of a frame.

/// When a frame is shown, in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// The buffer's own timestamp. It begins anywhere: at the key frame before a trim, for example.
    pub pts: Option<u64>,
    /// What a player shows: the timestamp with the segment applied. `None` if the frame lies before
    /// the beginning of the stream, or if nobody recorded it.
    pub stream: Option<u64>,
}

impl Times {
    /// The times of a frame with this timestamp, in a stream with this segment.
    pub fn of(pts: Option<gst::ClockTime>, segment: Option<&gst::Segment>) -> Self {
        let segment = segment.and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let stream = match segment.and_then(|s| s.to_stream_time_full(pts?)) {
            Some(gst::Signed::Positive(time)) => Some(time.nseconds()),
            Some(gst::Signed::Negative(_)) | None => None,
        };
        Self {
            pts: pts.map(gst::ClockTime::nseconds),
            stream,
        }
    }

    /// The time to show and to compare. Results of earlier versions have only timestamps.
    pub fn shown(self) -> Option<u64> {
        self.stream.or(self.pts)
    }

    /// These times, with those of `other` where nothing is known.
    pub fn or(self, other: Self) -> Self {
        Self {
            pts: self.pts.or(other.pts),
            stream: self.stream.or(other.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(start: u64, time: u64) -> gst::Segment {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_nseconds(start));
        segment.set_time(gst::ClockTime::from_nseconds(time));
        segment.upcast()
    }

    fn of(pts: u64, segment: &gst::Segment) -> Times {
        Times::of(Some(gst::ClockTime::from_nseconds(pts)), Some(segment))
    }

    #[test]
    fn the_segment_gives_the_time_that_players_show() {
        gst::init().expect("GStreamer starts");
        let trimmed = segment(1377, 0);
        assert_eq!(of(1377, &trimmed).stream, Some(0));
        assert_eq!(of(1400, &trimmed).shown(), Some(23));
        assert_eq!(of(1400, &trimmed).pts, Some(1400));
        // A video that begins two seconds after its sound.
        assert_eq!(of(83, &segment(83, 2000)).shown(), Some(2000));
    }

    #[test]
    fn a_frame_before_the_beginning_has_no_stream_time() {
        gst::init().expect("GStreamer starts");
        assert_eq!(of(1300, &segment(1377, 0)).stream, None);
        let bytes = gst::FormattedSegment::<gst::format::Bytes>::new().upcast();
        assert_eq!(of(5, &bytes).stream, None);
        assert_eq!(of(5, &bytes).shown(), Some(5));
        assert_eq!(Times::of(None, Some(&bytes)), Times::default());
    }

    #[test]
    fn times_without_a_segment_are_timestamps() {
        gst::init().expect("GStreamer starts");
        let old = Times::of(Some(gst::ClockTime::from_nseconds(7)), None);
        assert_eq!((old.stream, old.shown()), (None, Some(7)));
    }
}
