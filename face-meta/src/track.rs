//! The end of a track, as the tracker announces it.

/// The name of the serialised downstream event and of the element message.
pub const TRACK_ENDED: &str = "face-track-ended";

/// A track that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackEnded {
    pub id: u64,
    /// Presentation times (PTS) of the first and the last frame on which the face was detected, in ns.
    pub first_seen: u64,
    pub last_seen: u64,
}

impl TrackEnded {
    /// Makes the structure of the event and of the message.
    pub fn to_structure(self) -> gst::Structure {
        gst::Structure::builder(TRACK_ENDED)
            .field("id", self.id)
            .field("first-seen", self.first_seen)
            .field("last-seen", self.last_seen)
            .build()
    }

    /// Parses an event; `None` if it is of another kind.
    pub fn from_event(event: &gst::Event) -> Option<Self> {
        let structure = event.structure().filter(|s| s.name() == TRACK_ENDED)?;
        Some(Self {
            id: structure.get("id").ok()?,
            first_seen: structure.get("first-seen").ok()?,
            last_seen: structure.get("last-seen").ok()?,
        })
    }
}
