//! `block_on`: runs one future to its end on the calling thread, which sleeps while nothing is
//! ready. It has a parker of its own, because anybody may spend the token of `thread::park`.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crossbeam_utils::sync::{Parker, Unparker};

use super::timer::look_after_fork;
use crate::window::RowAside;

thread_local! {
    /// The parker of this thread while no `block_on` uses it. It has a destructor; a `block_on` in the destructor
    /// of another thread-local that comes after makes a parker of its own.
    static SEAT: Cell<Option<Seat>> = const { Cell::new(None) };
    /// How many calls are under way. A count, because stackful coroutines may leave theirs in any order.
    static INSIDE: Cell<u32> = const { Cell::new(0) };
    /// When what goes on in the poll under way has to end: set when this is first asked.
    static UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The number of that poll. It grows with those of nested calls, too.
    static POLL: Cell<u32> = const { Cell::new(0) };
}

/// Whether this thread is inside [`block_on`], where no tasks wait beside the one that is polled.
pub(crate) fn in_block_on() -> bool {
    INSIDE.get() > 0
}

/// How many calls of [`block_on`] this thread is in.
pub(crate) fn calls_of_block_on() -> u32 {
    INSIDE.get()
}

/// The number of the poll under way, in the innermost of those; another one once a nested call is over.
pub(crate) fn poll_of_block_on() -> u32 {
    POLL.get()
}

/// Whether a scope that this thread polls inside [`block_on`] may go on, though its budget is spent: all scopes in one poll
/// of the future, nested or one after the other, have so much time together.
#[cold]
pub(crate) fn may_go_on(time: Duration) -> bool {
    if !in_block_on() {
        return false;
    }
    let now = Instant::now();
    let until = UNTIL.get().unwrap_or_else(|| now + time);
    UNTIL.set(Some(until));
    now < until
}

/// Runs a future to its end on this thread, and gives its output.
///
/// The thread sleeps while the future waits; any thread may wake it. Time comes from the
/// embedded timer. Calls may be nested, but a thread that blocks inside an asynchronous task
/// keeps everything else on that thread waiting; from async code, `await` instead.
///
/// A scope whose tasks are always ready gives way after 5 ms under other executors. Here, where it is mostly alone, it
/// may go on for 40 ms, scopes inside it included: what is joined with it inside the future waits for so long.
///
/// # Examples
/// ```
/// let answer = selvedge_scope::block_on(async { 6 * 7 });
/// assert_eq!(answer, 42);
/// ```
///
/// Compares with `futures::executor::block_on`, which refuses to be nested.
///
/// # Panics
/// If the future panics; the call can be repeated with another future.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut seated = Seated(None);
    let seat = seated.0.insert(Seat::take());
    let mut cx = Context::from_waker(&seat.waker);
    let _inside = Inside::enter();
    let mut unlimited = pin!(unlimited(poll_fn(|cx| future.as_mut().poll(cx))));
    loop {
        UNTIL.set(None);
        POLL.set(POLL.get().wrapping_add(1));
        if let Poll::Ready(output) = unlimited.as_mut().poll(&mut cx) {
            return output;
        }
        // Should this be a child process, in the middle of a poll that began before the `fork`.
        look_after_fork();
        // A wake-up of a poll before this one, or of an earlier `block_on`, costs one poll.
        seat.parker.park();
    }
}

/// Without the budget of the task of tokio's that this may be nested in. There is no new one before that task's poll
/// ends, and it waits for this; nor is there anybody here to be fair to.
fn unlimited<F: Future>(future: F) -> impl Future<Output = F::Output> {
    #[cfg(feature = "tokio")]
    return tokio::task::coop::unconstrained(future);
    #[cfg(not(feature = "tokio"))]
    future
}

/// A parker and the waker that goes with it.
struct Seat {
    parker: Parker,
    waker: Waker,
}

struct Bell(Unparker);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

impl Seat {
    /// The thread's own seat, or a new one for a nested call. The seats differ, so that an inner
    /// call cannot spend the wake-up of an outer one.
    fn take() -> Self {
        let own = SEAT.try_with(Cell::take).ok().flatten();
        own.unwrap_or_else(|| {
            let parker = Parker::new();
            let waker = Waker::from(Arc::new(Bell(parker.unparker().clone())));
            Self { parker, waker }
        })
    }
}

/// Gives the seat back to the thread; also when the future unwinds.
struct Seated(Option<Seat>);

impl Drop for Seated {
    fn drop(&mut self) {
        let seat = self.0.take();
        // In a thread-local destructor the cell may be gone; the seat then goes with the closure.
        let _ = SEAT.try_with(|cell| cell.set(seat));
    }
}

/// Counts a call for [`in_block_on`]; also when the future unwinds.
struct Inside {
    _row: RowAside,
    /// Of the poll that this call is in, if it is nested.
    until: Option<Instant>,
}

impl Inside {
    fn enter() -> Self {
        INSIDE.set(INSIDE.get() + 1);
        Self {
            _row: RowAside::put(),
            until: UNTIL.get(),
        }
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        UNTIL.set(self.until);
        INSIDE.set(INSIDE.get().saturating_sub(1));
    }
}
