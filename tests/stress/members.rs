//! What stands around every member and watches it: who polls it, when, and how many others come first; and the leaf
//! futures that members wait in. Not what members do, which is in `ops`.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use pin_project_lite::pin_project;
use selvedge::testing::lending::{Lending, with};

use crate::agents;
use crate::plan::Mode;
use crate::values::{Canary, Failure, Nasty, Pad, burn, nasty, quietly};
use crate::world::{Counted, Fate, Kind, WORLD, lock};

/// One scope, batch or pipeline, as its members see it. It is borrowed by all of them.
#[derive(Debug)]
pub(crate) struct Level {
    far: Box<Canary>,
    near: Canary,
    /// How many polls of it are under way: members are polled while it is 1 only.
    open: AtomicUsize,
    /// Polls of members so far.
    polls: Arc<AtomicU64>,
    /// How many polls of others a ready member may have to wait.
    turns: u64,
    /// Members that have been polled and not been dropped.
    inside: AtomicUsize,
    pub(crate) panicked: AtomicUsize,
    /// Errors that members returned: those that are failures, and those that are cancellations.
    pub(crate) failed: AtomicUsize,
    pub(crate) cut: AtomicUsize,
}

impl Level {
    pub(crate) fn new(turns: u64) -> Self {
        Self {
            far: Box::new(Canary::new()),
            near: Canary::new(),
            open: AtomicUsize::new(0),
            polls: Arc::default(),
            turns,
            inside: AtomicUsize::new(0),
            panicked: AtomicUsize::new(0),
            failed: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
        }
    }

    pub(crate) fn look(&self) {
        self.far.look();
        self.near.look();
    }

    fn polls(&self) -> u64 {
        self.polls.load(SeqCst)
    }

    /// A member that was ready since then gets its turn.
    fn turn_since(&self, then: u64, what: &str) {
        let waited = self.polls().saturating_sub(then).saturating_sub(1);
        if waited > self.turns {
            let turns = self.turns;
            WORLD.fail(format!(
                "{what} waited for {waited} polls of others, {turns} are allowed"
            ));
        }
    }

    /// Nothing is left inside what has ended or was dropped.
    pub(crate) fn is_over(&self, what: &str) {
        let inside = self.inside.load(SeqCst);
        if inside != 0 {
            WORLD.fail(format!("{inside} members are left in {what} that is over"));
        }
    }
}

/// Marks the poll of a scope, batch or pipeline, also if it unwinds.
pub(crate) struct Open<'a>(&'a Level);

impl<'a> Open<'a> {
    pub(crate) fn enter(level: &'a Level) -> Self {
        if level.open.fetch_add(1, SeqCst) != 0 {
            WORLD.fail("two polls of a scope at a time");
        }
        Self(level)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

/// How a member ends, before the scope's kind makes an output of it.
#[derive(Debug)]
pub(crate) enum Ended {
    Value,
    Error(Failure),
}

const REST: u8 = 0;
const POLLED: u8 = 1;
const OVER: u8 = 2;

pin_project! {
    /// A member under observation. `P` makes its layout odd.
    pub(crate) struct Checked<'l, F, P> {
        #[pin]
        future: Option<F>,
        state: AtomicU8,
        address: usize,
        pad: P,
        run: usize,
        level: &'l Level,
        counted: Counted,
    }

    impl<F, P> PinnedDrop for Checked<'_, F, P> {
        fn drop(this: Pin<&mut Self>) {
            this.part();
        }
    }
}

impl<'l, F: Future<Output = Ended>, P: Pad> Checked<'l, F, P> {
    pub(crate) fn new(level: &'l Level, run: usize, future: F) -> Self {
        Self {
            future: Some(future),
            state: AtomicU8::new(REST),
            address: 0,
            pad: P::make(run),
            run,
            level,
            counted: Counted::new(Kind::Future),
        }
    }
}

impl<F, P> Checked<'_, F, P> {
    fn part(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.state.load(SeqCst) == POLLED {
            WORLD.fail("a member is dropped while it is polled");
        }
        this.level.look();
        if this.state.swap(OVER, SeqCst) == REST {
            WORLD.set_fate(*this.run, Fate::Dropped);
        }
        let level = *this.level;
        let was_polled = *this.address != 0;
        // Its destructor may panic.
        struct Leave<'a>(&'a Level, bool);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                if self.1 {
                    self.0.inside.fetch_sub(1, SeqCst);
                }
            }
        }
        let _leave = Leave(level, was_polled);
        this.future.set(None);
    }
}

impl<F: Future<Output = Ended>, P: Pad> Future for Checked<'_, F, P> {
    type Output = Ended;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let mut this = self.project();
        let address = std::ptr::from_ref(this.state).addr();
        if *this.address == 0 {
            *this.address = address;
            this.level.inside.fetch_add(1, SeqCst);
            WORLD.set_fate(*this.run, Fate::Polled);
        } else if *this.address != address {
            WORLD.fail("a member was moved after its first poll");
        }
        match this.state.swap(POLLED, SeqCst) {
            REST => {}
            POLLED => WORLD.fail("a member is polled twice at a time"),
            _ => WORLD.fail("a member is polled after its end"),
        }
        let look = |when| {
            this.level.look();
            this.counted.look();
            if this.level.open.load(SeqCst) != 1 {
                WORLD.fail(format!(
                    "a member is polled outside of its scope's poll ({when})"
                ));
            }
            if !this.pad.is_whole(*this.run) {
                WORLD.fail(format!("a future was overwritten ({when} its poll)"));
            }
        };
        look("before");
        this.level.polls.fetch_add(1, SeqCst);
        let future = this.future.as_mut().as_pin_mut().expect("it has not ended");
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll(cx)));
        look("after");
        let fate = match &polled {
            Ok(Poll::Pending) => {
                this.state.store(REST, SeqCst);
                return Poll::Pending;
            }
            Ok(Poll::Ready(Ended::Value)) => Fate::Value,
            Ok(Poll::Ready(Ended::Error(error))) => {
                match error.is_cancelled() {
                    true => this.level.cut.fetch_add(1, SeqCst),
                    false => this.level.failed.fetch_add(1, SeqCst),
                };
                Fate::Error
            }
            Err(_) => {
                this.level.panicked.fetch_add(1, SeqCst);
                Fate::Panicked
            }
        };
        this.state.store(OVER, SeqCst);
        WORLD.set_fate(*this.run, fate);
        polled.unwrap_or_else(|payload| resume_unwind(payload))
    }
}

/// Wakes itself, that many times, and looks when its turn comes.
pub(crate) struct Yields<'l> {
    left: u32,
    ready_since: Option<u64>,
    level: &'l Level,
}

impl<'l> Yields<'l> {
    pub(crate) fn new(level: &'l Level, times: u32) -> Self {
        Self {
            left: times,
            ready_since: None,
            level,
        }
    }
}

impl Future for Yields<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(then) = self.ready_since.take() {
            self.level.turn_since(then, "one that yields");
        }
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        self.ready_since = Some(self.level.polls());
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Ends when another thread says so.
pub(crate) struct Late<'l> {
    micros: u32,
    shared: Option<Arc<LateShared>>,
    level: &'l Level,
}

#[derive(Debug)]
struct LateShared {
    is_over: AtomicBool,
    waker: Mutex<Option<Waker>>,
    woken_at: AtomicU64,
}

impl<'l> Late<'l> {
    pub(crate) fn new(level: &'l Level, micros: u32) -> Self {
        Self {
            micros,
            shared: None,
            level,
        }
    }
}

impl Future for Late<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(shared) = &self.shared else {
            let shared = Arc::new(LateShared {
                is_over: AtomicBool::new(false),
                waker: Mutex::new(Some(cx.waker().clone())),
                woken_at: AtomicU64::new(u64::MAX),
            });
            self.shared = Some(shared.clone());
            let (micros, polls) = (self.micros, self.level.polls.clone());
            agents::send(move || {
                burn(micros);
                shared.is_over.store(true, SeqCst);
                let waker = lock(&shared.waker).take();
                quietly(|| waker.into_iter().for_each(Waker::wake));
                // Only now: this thread may have been stopped before.
                shared.woken_at.store(polls.load(SeqCst), SeqCst);
            });
            return Poll::Pending;
        };
        let before = lock(&shared.waker).replace(cx.waker().clone());
        drop(before);
        if !shared.is_over.load(SeqCst) {
            return Poll::Pending;
        }
        let waker = lock(&shared.waker).take();
        drop(waker);
        self.level
            .turn_since(shared.woken_at.load(SeqCst), "one that another thread woke");
        Poll::Ready(())
    }
}

pin_project! {
    /// Polls with wakers of ours around the real one.
    pub(crate) struct WithWaker<F> {
        #[pin]
        pub(crate) future: F,
        pub(crate) how: Option<Nasty>,
        pub(crate) seed: u64,
    }
}

impl<F: Future> Future for WithWaker<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let Some(how) = *this.how else {
            return this.future.poll(cx);
        };
        let waker = nasty(how, cx.waker(), *this.seed);
        let polled = this.future.poll(&mut Context::from_waker(&waker));
        quietly(|| drop(waker));
        polled
    }
}

/// Polls a few times, then drops the future. `None`: it was given up.
pub(crate) struct GivesUp<F> {
    future: Option<Pin<Box<F>>>,
    left: u32,
}

impl<F: Future> GivesUp<F> {
    pub(crate) fn new(future: F, polls: u32) -> Self {
        Self {
            future: Some(Box::pin(future)),
            left: polls,
        }
    }
}

impl<F: Future> Future for GivesUp<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let future = this.future.as_mut().expect("it has not ended");
        if this.left == 0 {
            let future = this.future.take();
            drop(future);
            return Poll::Ready(None);
        }
        this.left -= 1;
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() && this.left == 0 {
            // Nobody else may wake it, and it gives up at its next poll.
            cx.waker().wake_by_ref();
        }
        polled.map(Some)
    }
}

pin_project! {
    /// Sets the mode of lending on whichever thread polls the root.
    pub(crate) struct Lent<F> {
        #[pin]
        pub(crate) future: F,
        pub(crate) mode: Mode,
    }
}

impl<F: Future> Future for Lent<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let lending = match this.mode {
            Mode::Never => Lending::Never,
            Mode::Adaptive => Lending::Adaptive,
            Mode::Forced => Lending::Forced,
        };
        with(lending, || this.future.poll(cx))
    }
}
