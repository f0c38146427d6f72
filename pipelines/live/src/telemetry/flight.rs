//! Tracks the frames between the source and the last stage, to tell dropped frames from those still
//! under way.

use std::collections::VecDeque;

/// More frames than the queues can contain. Older ones have been dropped.
const MOST: usize = 1024;

/// Presentation times in the order of arrival.
#[derive(Debug, Default)]
pub struct Flight(VecDeque<u64>);

impl Flight {
    /// A frame entered. Returns how many must have been lost.
    pub fn enter(&mut self, pts: u64) -> u64 {
        self.0.push_back(pts);
        if self.0.len() <= MOST {
            return 0;
        }
        self.0.pop_front();
        1
    }

    /// A frame left. As frames do not overtake each other, returns how many earlier ones were dropped.
    pub fn leave(&mut self, pts: u64) -> u64 {
        let Some(place) = self.0.iter().position(|known| *known == pts) else {
            return 0;
        };
        self.0.drain(..=place);
        place as u64
    }

    /// Nothing is under way any more. Returns how many frames were.
    pub fn clear(&mut self) -> u64 {
        let left = self.0.len() as u64;
        self.0.clear();
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_are_those_out_and_those_dropped_and_those_under_way() {
        let mut flight = Flight::default();
        for pts in [10, 20, 30, 40, 50] {
            assert_eq!(flight.enter(pts), 0);
        }
        assert_eq!(flight.leave(10), 0);
        assert_eq!(flight.leave(40), 2);
        assert_eq!(flight.leave(20), 0, "it is unknown by now");
        assert_eq!(flight.clear(), 1);
        assert_eq!(flight.clear(), 0);
    }

    #[test]
    fn times_may_run_backwards() {
        let mut flight = Flight::default();
        for pts in [100, 200, 5, 15] {
            flight.enter(pts);
        }
        let dropped: u64 = [100, 200, 15].map(|pts| flight.leave(pts)).iter().sum();
        assert_eq!(dropped, 1);
    }

    #[test]
    fn a_source_whose_frames_never_come_out_takes_no_memory() {
        let mut flight = Flight::default();
        let lost: u64 = (0..5000).map(|pts| flight.enter(pts)).sum();
        assert_eq!(lost + flight.clear(), 5000);
        assert!(flight.0.capacity() <= 2 * MOST);
    }
}
