//! Turns: who may run a model next where more ask than there are places.
//!
//! A place goes to whoever was served longest ago, so that forty streams share what one machine can do and
//! none of them starves. Whoever cannot wait says how long it can; it is turned away at once if its turn
//! would surely come too late.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// One that asks for turns: a stage of a stream.
#[derive(Debug, Default)]
pub struct Asker {
    /// The number of its last turn, 0 before the first. Turns are numbered in their order.
    last: AtomicU64,
}

/// Those that wait. Knows no clock and no threads.
#[derive(Debug)]
struct Line<T> {
    free: usize,
    /// Turns given so far.
    given: u64,
    waiting: Vec<(Rank, T)>,
}

/// The last turn of who waits, then the order of arrival; the smallest goes first.
type Rank = (u64, u64);

impl<T> Line<T> {
    fn new(places: usize) -> Self {
        Self {
            free: places.max(1),
            given: 0,
            waiting: Vec::new(),
        }
    }

    /// Takes a free place; the number of the turn.
    fn take(&mut self) -> Option<u64> {
        self.free = self.free.checked_sub(1)?;
        self.given += 1;
        Some(self.given)
    }

    /// How many of those that wait go before somebody whose last turn was `last`.
    fn ahead(&self, last: u64) -> usize {
        self.waiting
            .iter()
            .filter(|((theirs, _), _)| *theirs <= last)
            .count()
    }

    /// Waits; `arrival` tells those apart whose last turns are the same.
    fn wait(&mut self, rank: Rank, who: T) {
        self.waiting.push((rank, who));
    }

    /// Who waits no longer.
    fn leave(&mut self, rank: Rank) {
        self.waiting.retain(|(theirs, _)| *theirs != rank);
    }

    /// A place becomes free; who gets it, and the number of the turn.
    fn give_back(&mut self) -> Option<(T, u64)> {
        let ranks = self.waiting.iter().map(|(rank, _)| *rank);
        let Some((next, _)) = ranks.enumerate().min_by_key(|(_, rank)| *rank) else {
            self.free += 1;
            return None;
        };
        self.given += 1;
        Some((self.waiting.swap_remove(next).1, self.given))
    }
}

/// A thread that waits for its turn.
#[derive(Debug)]
struct Waiting {
    thread: Thread,
    /// The number of its turn, once it has one.
    turn: AtomicU64,
}

#[derive(Debug)]
struct State {
    line: Line<Arc<Waiting>>,
    arrivals: u64,
    /// How long a turn takes, as a running mean in seconds.
    mean: f64,
}

/// A number of places, and who may use them.
#[derive(Debug)]
pub struct Gate {
    places: usize,
    state: Mutex<State>,
    /// Whoever cannot wait for ever is turned away.
    closed: AtomicBool,
}

/// How much of the mean is the last turn.
const NEWEST: f64 = 1.0 / 16.0;

/// How much longer than the mean a turn may be expected to take before somebody is turned away for it:
/// a mean says little of a single turn.
const DOUBT: f64 = 0.5;

impl Gate {
    pub fn new(places: usize) -> Self {
        let places = places.max(1);
        Self {
            places,
            state: Mutex::new(State {
                line: Line::new(places),
                arrivals: 0,
                mean: 0.0,
            }),
            closed: AtomicBool::new(false),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. `None` if there is none within `patience`, or if none is to be expected; without
    /// a `patience` it waits as long as it takes. A thread that has a place must not ask for another.
    pub fn turn(&self, asker: &Asker, patience: Option<Duration>) -> Option<Turn<'_>> {
        let begin = Instant::now();
        if patience.is_some() && self.closed.load(Ordering::Relaxed) {
            return None;
        }
        let last = asker.last.load(Ordering::Relaxed);
        let me = Arc::new(Waiting {
            thread: std::thread::current(),
            turn: AtomicU64::new(0),
        });
        let rank = {
            let mut state = self.state();
            if let Some(number) = state.line.take() {
                drop(state);
                return Some(self.begin(asker, number));
            }
            let turns = (state.line.ahead(last) + 1) as f64 / self.places as f64;
            let expected = turns * state.mean * DOUBT;
            if patience.is_some_and(|patience| expected > patience.as_secs_f64()) {
                return None;
            }
            state.arrivals += 1;
            let rank = (last, state.arrivals);
            state.line.wait(rank, me.clone());
            rank
        };
        loop {
            match me.turn.load(Ordering::Acquire) {
                0 => {}
                number => return Some(self.begin(asker, number)),
            }
            let Some(patience) = patience else {
                std::thread::park();
                continue;
            };
            let left = patience.saturating_sub(begin.elapsed());
            if !left.is_zero() && !self.closed.load(Ordering::Relaxed) {
                std::thread::park_timeout(left);
                continue;
            }
            let mut state = self.state();
            // Turns are given with the state locked: from here on there will be none.
            match me.turn.load(Ordering::Acquire) {
                0 => {
                    state.line.leave(rank);
                    return None;
                }
                number => {
                    drop(state);
                    return Some(self.begin(asker, number));
                }
            }
        }
    }

    fn begin(&self, asker: &Asker, number: u64) -> Turn<'_> {
        asker.last.fetch_max(number, Ordering::Relaxed);
        Turn {
            gate: self,
            begin: Instant::now(),
        }
    }

    fn end(&self, took: Duration) {
        let mut state = self.state();
        state.mean += (took.as_secs_f64() - state.mean) * NEWEST;
        if let Some((next, number)) = state.line.give_back() {
            next.turn.store(number, Ordering::Release);
            next.thread.unpark();
        }
    }

    /// Turns away all that cannot wait for ever, from now on or until it is opened again: for a program that
    /// ends and wants nothing but the frames under way.
    pub fn close(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
        for (_, waiting) in &self.state().line.waiting {
            waiting.thread.unpark();
        }
    }
}

/// The right to run a model, as long as it lives.
#[must_use]
#[derive(Debug)]
pub struct Turn<'a> {
    gate: &'a Gate,
    begin: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.end(self.begin.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;

    #[test]
    fn who_was_served_longest_ago_goes_first() {
        let mut line = Line::new(2);
        assert_eq!(
            (line.take(), line.take(), line.take()),
            (Some(1), Some(2), None)
        );
        line.wait((2, 1), "second");
        line.wait((1, 2), "first");
        line.wait((2, 3), "third");
        line.wait((0, 4), "new");
        line.wait((0, 5), "impatient");
        assert_eq!((line.ahead(0), line.ahead(1), line.ahead(9)), (2, 3, 5));
        line.leave((0, 5));
        let order: Vec<_> = (0..5).map(|_| line.give_back()).collect();
        let turn = |who, number| Some((who, number));
        assert_eq!(
            order,
            [
                turn("new", 3),
                turn("first", 4),
                turn("second", 5),
                turn("third", 6),
                None
            ]
        );
        assert_eq!(line.take(), Some(7));
    }

    #[test]
    fn forty_that_always_ask_are_served_alike() {
        // Each asks for every turn; two places.
        let mut line = Line::new(2);
        let mut last = [0u64; 40];
        let mut served = [0u32; 40];
        for n in 0..40u64 {
            line.wait((0, n), n as usize);
        }
        line.free = 0;
        for round in 0..4000 {
            let (who, number) = line.give_back().expect("somebody waits");
            served[who] += 1;
            last[who] = number;
            line.wait((last[who], 40 + round), who);
        }
        assert_eq!(served, [100; 40]);
    }

    #[test]
    fn no_more_are_inside_than_there_are_places() {
        let gate = Gate::new(3);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    let asker = Asker::default();
                    for round in 0..200 {
                        let patience = (round % 2 == 0).then_some(Duration::from_secs(60));
                        let Some(_turn) = gate.turn(&asker, patience) else {
                            continue;
                        };
                        let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                        most.fetch_max(now, Ordering::SeqCst);
                        std::thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 3);
        let state = gate.state();
        assert_eq!((state.line.free, state.line.waiting.len()), (3, 0));
    }

    #[test]
    fn the_impatient_are_turned_away_and_the_patient_wait() {
        let gate = Gate::new(1);
        let (here, there) = (Asker::default(), Asker::default());
        let first = gate.turn(&here, None).expect("it is free");
        assert!(gate.turn(&there, Some(Duration::ZERO)).is_none());
        assert!(gate.turn(&there, Some(Duration::from_millis(2))).is_none());
        assert!(
            gate.state().line.waiting.is_empty(),
            "nobody is left behind"
        );
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let turn = gate.turn(&there, Some(Duration::from_secs(3600)));
                sender.send(turn.is_some()).expect("somebody listens");
            });
            while gate.state().line.waiting.is_empty() {
                std::thread::yield_now();
            }
            drop(first);
            assert_eq!(receiver.recv(), Ok(true));
        });
    }

    #[test]
    fn a_turn_that_would_come_too_late_is_not_waited_for() {
        let gate = Gate::new(1);
        let asker = Asker::default();
        let _turn = gate.turn(&asker, None);
        // Turns take an hour here: even a minute's patience is in vain.
        gate.state().mean = 3600.0;
        assert!(gate.turn(&asker, Some(Duration::from_secs(60))).is_none());
    }

    #[test]
    fn a_closed_gate_lets_only_those_in_that_wait_for_ever() {
        let gate = Gate::new(1);
        let asker = Asker::default();
        let turn = gate.turn(&asker, None);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| {
                gate.turn(&Asker::default(), Some(Duration::from_secs(3600)))
                    .is_some()
            });
            while gate.state().line.waiting.is_empty() {
                std::thread::yield_now();
            }
            gate.close(true);
            assert!(!waits.join().expect("no panic"));
        });
        drop(turn);
        assert!(gate.turn(&asker, Some(Duration::from_secs(1))).is_none());
        assert!(gate.turn(&asker, None).is_some());
        gate.close(false);
        assert!(gate.turn(&asker, Some(Duration::from_secs(1))).is_some());
    }
}
