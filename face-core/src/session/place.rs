//! Places for inferences: they limit how many run at a time.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::LazyLock;
use std::time::Duration;

use crate::turns::{Asker, Gate, Turn};

/// Inferences on the CPU: twice as many at a time as there are cores, so that no core idles while
/// the system has paused a thread in here. More would be no faster, and each one's intermediate
/// results take memory: with many streams, most of what a stream needs.
static CPU: LazyLock<Gate> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Gate::new(2 * cores)
});

thread_local! {
    /// Whether this thread has a turn. It then needs no other: threads that waited for a second one
    /// could wait for each other.
    static HAS_TURN: Cell<bool> = const { Cell::new(false) };
}

/// The right to run models on this thread, while it lives.
#[must_use]
pub struct Place {
    turn: Option<Turn<'static>>,
    /// A place must stay on its thread.
    _thread: PhantomData<*const ()>,
}

impl Place {
    /// A place without a turn.
    pub(super) fn free() -> Self {
        Self::new(None)
    }

    /// A turn on the processor, unless this thread has one.
    pub(super) fn on_cpu(asker: &Asker, patience: Option<Duration>) -> Option<Self> {
        if HAS_TURN.get() {
            return Some(Self::free());
        }
        let turn = CPU.turn(asker, patience)?;
        HAS_TURN.set(true);
        Some(Self::new(Some(turn)))
    }

    fn new(turn: Option<Turn<'static>>) -> Self {
        Self {
            turn,
            _thread: PhantomData,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.turn.is_some() {
            HAS_TURN.set(false);
        }
    }
}

/// While set, stages that may skip work skip all of it. Pipelines that end then finish their frames
/// at once.
pub fn leave_work_out(leave_out: bool) {
    CPU.close(leave_out);
}
