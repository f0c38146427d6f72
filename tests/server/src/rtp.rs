//! Faults of RTP packets: loss, shifted timestamps, random payload.

use rand::{Rng, RngExt};

/// Bytes of an RTP header without extensions or contributors, as payloaders write it.
const HEADER: usize = 12;

/// Ticks per second of the RTP clock for video.
const CLOCK: f64 = 90_000.0;

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Whether the payload is random bytes. Headers stay unchanged.
    pub garbage: bool,
    /// The share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// Added to the timestamps, in seconds.
    pub shift: f64,
}

impl Faults {
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// Applies the faults to a packet. Returns `None` if it is lost.
    pub fn apply(&self, packet: &[u8], rng: &mut impl Rng) -> Option<Vec<u8>> {
        if self.loss > 0.0 && rng.random::<f64>() < self.loss {
            return None;
        }
        let mut packet = packet.to_vec();
        if let Some(timestamp) = packet.get_mut(4..8) {
            // The clock wraps around, even that of a camera whose time runs backwards.
            let ticks = (self.shift * CLOCK) as i64 as u32;
            let old = u32::from_be_bytes([timestamp[0], timestamp[1], timestamp[2], timestamp[3]]);
            timestamp.copy_from_slice(&old.wrapping_add(ticks).to_be_bytes());
        }
        if self.garbage && packet.len() > HEADER {
            rng.fill(&mut packet[HEADER..]);
        }
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn packets_are_shifted_spoilt_and_lost() {
        let mut rng = StdRng::seed_from_u64(1);
        let packet: Vec<u8> = (0..40).collect();
        let shifted = Faults {
            shift: -1.0,
            ..Faults::default()
        };
        let one = shifted.apply(&packet, &mut rng).expect("kept");
        let expected = 0x0405_0607_u32.wrapping_sub(90_000).to_be_bytes();
        assert_eq!(one[4..8], expected);
        assert_eq!(one[8..], packet[8..]);

        let garbage = Faults {
            garbage: true,
            ..Faults::default()
        };
        let one = garbage.apply(&packet, &mut rng).expect("kept");
        assert_eq!(one[..HEADER], packet[..HEADER]);
        assert_ne!(one[HEADER..], packet[HEADER..]);
        assert_eq!(
            garbage.apply(&packet[..3], &mut rng).expect("kept").len(),
            3
        );

        let loss = Faults {
            loss: 0.2,
            ..Faults::default()
        };
        let kept = (0..10_000).filter_map(|_| loss.apply(&packet, &mut rng));
        assert!((7_800..8_200).contains(&kept.count()));
    }
}
