//! What members carry: outputs and paddings of odd layouts, errors, payloads, guards whose drop does something,
//! borrowed data that knows its death, and wakers that misbehave. Not what members do.

use std::error::Error;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use selvedge::Cancelled;

use crate::rng::Rng;
use crate::world::{Counted, Kind, WORLD, lock};

/// The payload of a panic that the plan wants. `nasty`: it panics when it is dropped.
#[derive(Debug)]
pub(crate) struct Planned {
    _counted: Counted,
    _nasty: Option<Bomb>,
}

/// What drops of bombs panic with: nothing counted, since the engine forgets it.
#[derive(Debug)]
pub(crate) struct FromDrop;

/// Panics when it is dropped, unless that would abort the process.
#[derive(Debug)]
pub(crate) struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic_any(FromDrop);
        }
    }
}

pub(crate) fn planned_panic(nasty: bool) -> ! {
    panic_any(Planned {
        _counted: Counted::new(Kind::Payload),
        _nasty: nasty.then(|| Bomb),
    })
}

pub(crate) fn is_planned(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Planned>() || payload.is::<FromDrop>()
}

/// Runs user code of the test program that may panic as planned.
pub(crate) fn quietly(run: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
        drop_payload(payload);
    }
}

pub(crate) fn drop_payload(payload: Box<dyn std::any::Any + Send>) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        drop(second);
    }
}

/// Keeps the thread busy.
pub(crate) fn burn(micros: u32) {
    if micros > 0 {
        let time = Duration::from_micros(micros.into());
        let from = Instant::now();
        while from.elapsed() < time {
            std::hint::spin_loop();
        }
    }
}

/// Borrowed data that is overwritten at its death.
#[derive(Debug)]
pub(crate) struct Canary(AtomicU64);

const ALIVE: u64 = 0xa11e_a11e_a11e_a11e;

impl Canary {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(ALIVE))
    }

    pub(crate) fn look(&self) {
        if self.0.load(SeqCst) != ALIVE {
            WORLD.fail("borrowed data was looked at after its death");
        }
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.0.store(0xdead_dead, SeqCst);
    }
}

/// The error of members of a `try_scope`; a cancellation inside is its source.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) run: usize,
    cancelled: Option<Cancelled>,
    counted: Counted,
    _bomb: Option<Bomb>,
}

impl Failure {
    pub(crate) fn new(run: usize, cancelled: Option<Cancelled>, bomb: bool) -> Self {
        let counted = Counted::new(Kind::Error);
        Self {
            run,
            cancelled,
            counted,
            _bomb: bomb.then(|| Bomb),
        }
    }

    pub(crate) fn look(&self) {
        self.counted.look();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.is_some()
    }
}

/// Where no member made the error: that of an expired grace.
pub(crate) const NO_RUN: usize = usize::MAX;

impl From<Cancelled> for Failure {
    fn from(cancelled: Cancelled) -> Self {
        Self::new(NO_RUN, Some(cancelled), false)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} failed", self.run)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cancelled.as_ref().map(|cancelled| cancelled as _)
    }
}

/// What a member returns.
pub(crate) trait Output: Send + 'static {
    fn make(run: usize) -> Self;
    /// Whether this is what `make` of that run gave.
    fn is_of(&self, run: usize) -> bool;
}

#[derive(Debug)]
pub(crate) struct Zero;

impl Drop for Zero {
    fn drop(&mut self) {
        WORLD.drop_zero();
    }
}

impl Zero {
    pub(crate) fn new() -> Self {
        WORLD.make_zero();
        Self
    }
}

impl Output for Zero {
    fn make(_: usize) -> Self {
        Self::new()
    }

    fn is_of(&self, _: usize) -> bool {
        true
    }
}

#[derive(Debug)]
pub(crate) struct Byte(u8, Zero);

fn low(run: usize) -> u8 {
    u8::try_from(run & 0xff).expect("it is one byte")
}

impl Output for Byte {
    fn make(run: usize) -> Self {
        Self(low(run), Zero::new())
    }

    fn is_of(&self, run: usize) -> bool {
        self.0 == low(run)
    }
}

/// An output with a counted value in it; `bomb` panics when it is dropped.
#[derive(Debug)]
pub(crate) struct Plain {
    run: usize,
    counted: Counted,
}

impl Output for Plain {
    fn make(run: usize) -> Self {
        Self {
            run,
            counted: Counted::new(Kind::Output),
        }
    }

    fn is_of(&self, run: usize) -> bool {
        self.counted.look();
        self.run == run
    }
}

/// An output that panics when it is dropped.
#[derive(Debug)]
pub(crate) struct Explosive {
    plain: Plain,
    _bomb: Bomb,
}

impl Output for Explosive {
    fn make(run: usize) -> Self {
        Self {
            plain: Plain::make(run),
            _bomb: Bomb,
        }
    }

    fn is_of(&self, run: usize) -> bool {
        self.plain.is_of(run)
    }
}

macro_rules! aligned {
    ($name:ident $align:literal $bytes:literal) => {
        /// A large or strictly aligned output.
        #[derive(Debug)]
        #[repr(align($align))]
        pub(crate) struct $name {
            plain: Plain,
            bytes: [u8; $bytes],
        }

        impl Output for $name {
            fn make(run: usize) -> Self {
                Self {
                    plain: Plain::make(run),
                    bytes: [low(run); $bytes],
                }
            }

            fn is_of(&self, run: usize) -> bool {
                let address = std::ptr::from_ref(self).addr();
                let whole = self.bytes.iter().all(|byte| *byte == low(run));
                address % $align == 0 && whole && self.plain.is_of(run)
            }
        }
    };
}

aligned!(Line 64 8);
aligned!(Page 4096 4096);

/// What makes a future large or strictly aligned, and notices that it was overwritten.
pub(crate) trait Pad: Send + Unpin + 'static {
    fn make(run: usize) -> Self;
    fn is_whole(&self, run: usize) -> bool;
}

impl Pad for () {
    fn make(_: usize) {}

    fn is_whole(&self, _: usize) -> bool {
        true
    }
}

impl Pad for u8 {
    fn make(run: usize) -> Self {
        low(run)
    }

    fn is_whole(&self, run: usize) -> bool {
        *self == low(run)
    }
}

macro_rules! pads {
    ($name:ident $align:literal $bytes:literal) => {
        #[repr(align($align))]
        pub(crate) struct $name([u8; $bytes]);

        impl Pad for $name {
            fn make(run: usize) -> Self {
                Self([low(run); $bytes])
            }

            fn is_whole(&self, run: usize) -> bool {
                let aligned = std::ptr::from_ref(self).addr() % $align == 0;
                aligned && self.0.iter().step_by(97).all(|byte| *byte == low(run))
            }
        }
    };
}

pads!(PadLine 64 64);
pads!(PadPage 4096 4096);

/// How a waker of ours misbehaves. Each passes wake-ups on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nasty {
    /// Only counted.
    Tame,
    PanicsWhenWoken,
    WakesOthers,
    WakesWhenDropped,
    TakesTheBagWhenDropped,
    PanicsWhenDropped,
    LocksWhenDropped,
}

struct NastyWaker {
    how: Nasty,
    real: Waker,
    seed: u64,
    counted: Counted,
}

pub(crate) fn nasty(how: Nasty, real: &Waker, seed: u64) -> Waker {
    let counted = Counted::new(Kind::Waker);
    Waker::from(Arc::new(NastyWaker {
        how,
        real: real.clone(),
        seed,
        counted,
    }))
}

impl Wake for NastyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.real.wake_by_ref();
        match self.how {
            Nasty::PanicsWhenWoken if !std::thread::panicking() => panic_any(FromDrop),
            Nasty::WakesOthers => {
                let other = WORLD.pick(&mut Rng::new(self.seed), true);
                other.inspect(Waker::wake_by_ref);
            }
            _ => {}
        }
    }
}

impl Drop for NastyWaker {
    fn drop(&mut self) {
        match self.how {
            // Not each time: a wait that has a new waker at each poll would never rest.
            Nasty::WakesWhenDropped if self.counted.number() % 4 == 0 => self.real.wake_by_ref(),
            Nasty::TakesTheBagWhenDropped if self.counted.number() % 4 == 0 => {
                let other = WORLD.pick(&mut Rng::new(self.seed), false);
                other.inspect(Waker::wake_by_ref);
            }
            Nasty::PanicsWhenDropped if !std::thread::panicking() => panic_any(FromDrop),
            Nasty::LocksWhenDropped => drop(lock(&WORLD.nasty)),
            _ => {}
        }
    }
}
