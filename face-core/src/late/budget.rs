//! How much work a frame gets for its faces, and which faces get it.

use std::time::{Duration, Instant};

/// How much work a frame gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    All,
    /// One piece of work, and more until `limit` has passed. Each may wait for its turn for
    /// `patience`.
    UpTo {
        limit: Duration,
        patience: Duration,
    },
    Nothing,
}

/// The work that a frame gets for its faces. `ask` decides how much, when the first face needs it.
#[derive(Debug)]
pub struct Budget<F> {
    ask: F,
    share: Option<(Share, Instant)>,
    pub(super) done: usize,
    took: Duration,
    /// Time spent waiting for turns.
    waited: Duration,
    /// A piece of work got no turn in time.
    refused: bool,
}

impl<F: Fn() -> Share> Budget<F> {
    pub fn new(ask: F) -> Self {
        Self {
            ask,
            share: None,
            done: 0,
            took: Duration::ZERO,
            waited: Duration::ZERO,
            refused: false,
        }
    }

    /// Waits for the turn of another piece of work. `turn` is told how long it may wait. `None` if
    /// no more work may begin on this frame, or if it gets no turn in time.
    pub fn begin<T>(&mut self, turn: impl FnOnce(Option<Duration>) -> Option<T>) -> Option<T> {
        let (share, _) = self
            .share
            .get_or_insert_with(|| ((self.ask)(), Instant::now()));
        let patience = match *share {
            _ if self.refused => return None,
            Share::All => None,
            // All of them together wait no longer than one may.
            Share::UpTo { limit, patience } if self.done == 0 || self.took < limit => {
                Some(patience.saturating_sub(self.waited))
            }
            Share::UpTo { .. } | Share::Nothing => return None,
        };
        let begin = Instant::now();
        let turn = turn(patience);
        self.waited += begin.elapsed();
        self.refused = turn.is_none();
        turn
    }

    /// Records that a piece of work was done.
    pub fn spend(&mut self) {
        self.done += 1;
        let took = self.share.map_or(self.took, |(_, begin)| begin.elapsed());
        self.took = took.saturating_sub(self.waited);
    }

    /// How long the work took, without waiting for turns. `None` if there was no work.
    pub fn took(&self) -> Option<Duration> {
        (self.done > 0).then_some(self.took)
    }

    /// Whether no work was done because it got no turn in time.
    pub fn gave_up(&self) -> bool {
        self.refused && self.done == 0
    }

    /// How long the work waited for its turns.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

/// The order in which faces get work, as indices. Faces that were passed over on most frames
/// (`passed`) come first. Equal ones rotate by `round`, so that none waits for ever.
pub fn turns(passed: &[u32], round: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..passed.len()).collect();
    if !order.is_empty() {
        order.rotate_left((round % passed.len() as u64) as usize);
    }
    order.sort_by_key(|&i| std::cmp::Reverse(passed[i]));
    order
}
