//! What one seed shares: the ledger of counted values, the bag of kept wakers, and the first fault that was found.
//! One seed runs at a time in a process, so all of it is static. Not about how trees are made or run.

use std::collections::HashSet;
use std::mem;
use std::panic::PanicHookInfo;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::rng::Rng;

/// More values than any tree makes.
const VALUES: usize = 1 << 20;
/// How long after a seed helpers and timers may still hold what they are about to let go of.
const SETTLE: Duration = Duration::from_secs(5);

/// Panics of the engine that the trees provoke on purpose.
const EXPECTED: [&str; 8] = [
    "was dropped with its scope before it ended",
    "and its scope has raised the panic already",
    "a join handle has nothing to yield",
    "which has ended; use `try_spawn`",
    "a child of the scope panicked; its handle took the payload",
    "a pipeline panicked",
    // A test program that was given a failing seed ends with this itself.
    "the stress test found a fault",
    "called `Result::unwrap()` on an `Err` value: PoisonError",
];

/// What a value is, for messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Future = 1,
    Output,
    Error,
    Payload,
    Guard,
    Callback,
    Waker,
    Item,
}

const ALIVE: u8 = 0x40;
const DROPPED: u8 = 0x80;

pub(crate) struct World {
    generation: AtomicU32,
    ledger: [AtomicU8; VALUES],
    next: AtomicUsize,
    /// How each run of a member ended; see [`Fate`].
    fates: [AtomicU8; VALUES],
    next_run: AtomicUsize,
    zero_made: AtomicU64,
    zero_dropped: AtomicU64,
    forgot: AtomicBool,
    old_forgot: Mutex<Option<HashSet<u32>>>,
    fault: Mutex<Option<String>>,
    bag: Mutex<Vec<Waker>>,
    /// A lock that destructors of wakers take, and under which wakers are dropped.
    pub(crate) nasty: Mutex<()>,
}

pub(crate) static WORLD: World = World {
    generation: AtomicU32::new(0),
    ledger: [const { AtomicU8::new(0) }; VALUES],
    next: AtomicUsize::new(0),
    fates: [const { AtomicU8::new(0) }; VALUES],
    next_run: AtomicUsize::new(0),
    zero_made: AtomicU64::new(0),
    zero_dropped: AtomicU64::new(0),
    forgot: AtomicBool::new(false),
    old_forgot: Mutex::new(None),
    fault: Mutex::new(None),
    bag: Mutex::new(Vec::new()),
    nasty: Mutex::new(()),
};

/// How a run of a member ended, as the member itself sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fate {
    Made,
    Polled,
    Value,
    Error,
    Panicked,
    Dropped,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Begins a seed.
    pub(crate) fn begin(&self) {
        self.generation.fetch_add(1, SeqCst);
        let used = self.next.swap(0, SeqCst).min(VALUES);
        self.ledger[..used]
            .iter()
            .for_each(|entry| entry.store(0, SeqCst));
        let used = self.next_run.swap(0, SeqCst).min(VALUES);
        self.fates[..used]
            .iter()
            .for_each(|fate| fate.store(0, SeqCst));
        self.zero_made.store(0, SeqCst);
        self.zero_dropped.store(0, SeqCst);
        self.forgot.store(false, SeqCst);
    }

    /// A scope was forgotten: what it holds is never dropped.
    pub(crate) fn forget(&self) {
        if !self.forgot.swap(true, SeqCst) {
            let generation = self.generation.load(SeqCst);
            lock(&self.old_forgot)
                .get_or_insert_default()
                .insert(generation);
        }
    }

    pub(crate) fn has_forgotten(&self) -> bool {
        self.forgot.load(SeqCst)
    }

    /// Keeps the first fault, and says it at once: what follows may be a crash.
    pub(crate) fn fail(&self, what: impl Into<String>) {
        let mut fault = lock(&self.fault);
        if fault.is_none() {
            let what = what.into();
            eprintln!("FAULT: {what}");
            *fault = Some(what);
        }
    }

    pub(crate) fn take_fault(&self) -> Option<String> {
        lock(&self.fault).take()
    }

    pub(crate) fn new_run(&self) -> usize {
        let run = self.next_run.fetch_add(1, SeqCst);
        assert!(run < VALUES, "the tree is too large for the ledger");
        run
    }

    pub(crate) fn set_fate(&self, run: usize, fate: Fate) {
        self.fates[run].store(fate as u8, SeqCst);
    }

    pub(crate) fn fate(&self, run: usize) -> Fate {
        let all = [
            Fate::Made,
            Fate::Polled,
            Fate::Value,
            Fate::Error,
            Fate::Panicked,
            Fate::Dropped,
        ];
        all[usize::from(self.fates[run].load(SeqCst))]
    }

    pub(crate) fn make_zero(&self) {
        self.zero_made.fetch_add(1, SeqCst);
    }

    pub(crate) fn drop_zero(&self) {
        self.zero_dropped.fetch_add(1, SeqCst);
    }

    /// Keeps a waker for others to use.
    pub(crate) fn keep(&self, waker: Waker) {
        let mut bag = lock(&self.bag);
        if bag.len() < 256 {
            bag.push(waker);
        } else {
            drop(bag);
        }
    }

    /// One kept waker, taken out or cloned.
    pub(crate) fn pick(&self, rng: &mut Rng, take: bool) -> Option<Waker> {
        let mut bag = lock(&self.bag);
        if bag.is_empty() {
            return None;
        }
        let at = rng.below(bag.len());
        Some(match take {
            true => bag.swap_remove(at),
            false => bag[at].clone(),
        })
    }

    fn empty_bag(&self, seed: u64) {
        let mut rng = Rng::new(seed ^ 0xba6);
        let mut wakers = mem::take(&mut *lock(&self.bag));
        while let Some(waker) = wakers.pop() {
            crate::values::quietly(|| match rng.below(4) {
                0 => waker.wake(),
                1 => waker.wake_by_ref(),
                2 => drop(waker.clone()),
                _ => {}
            });
        }
    }

    fn open_values(&self) -> usize {
        let used = self.next.load(SeqCst).min(VALUES);
        self.ledger[..used]
            .iter()
            .filter(|entry| entry.load(SeqCst) & ALIVE != 0)
            .count()
    }

    fn describe_open(&self) -> String {
        let used = self.next.load(SeqCst).min(VALUES);
        let mut counts = [0; 16];
        for entry in &self.ledger[..used] {
            let entry = entry.load(SeqCst);
            if entry & ALIVE != 0 {
                counts[usize::from(entry & 15)] += 1;
            }
        }
        let names = [
            "",
            "futures",
            "outputs",
            "errors",
            "payloads",
            "guards",
            "callbacks",
            "wakers",
            "items",
        ];
        names
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(name, count)| format!("{count} {name} "))
            .collect()
    }

    /// The end of a seed: nothing that was made is left. `kept` counts what engine objects hold otherwise.
    pub(crate) fn settle(&self, seed: u64, mut kept: impl FnMut() -> Option<String>) {
        self.empty_bag(seed);
        if self.has_forgotten() {
            return;
        }
        let start = Instant::now();
        loop {
            let zero = self.zero_made.load(SeqCst) - self.zero_dropped.load(SeqCst);
            let held = kept();
            if self.open_values() == 0 && zero == 0 && held.is_none() {
                return;
            }
            if start.elapsed() > SETTLE {
                let what = self.describe_open();
                let held = held.unwrap_or_default();
                return self.fail(format!("never dropped: {what}, zero-sized: {zero} {held}"));
            }
            match start.elapsed() < Duration::from_millis(1) {
                true => std::thread::yield_now(),
                false => std::thread::sleep(Duration::from_micros(200)),
            }
        }
    }
}

/// A value that is made and dropped once.
#[derive(Debug)]
pub(crate) struct Counted {
    generation: u32,
    id: u32,
    mark: u64,
}

const MARK: u64 = 0x5e1f_ed6e_c0de_d00d;

impl Counted {
    pub(crate) fn new(kind: Kind) -> Self {
        let id = WORLD.next.fetch_add(1, SeqCst);
        assert!(id < VALUES, "the tree is too large for the ledger");
        WORLD.ledger[id].store(ALIVE | kind as u8, SeqCst);
        Self {
            generation: WORLD.generation.load(SeqCst),
            id: id.try_into().expect("it fits"),
            mark: MARK ^ id as u64,
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.id
    }

    /// Fails if this is no longer, or never was, a value.
    pub(crate) fn look(&self) {
        if self.mark != MARK ^ u64::from(self.id) {
            WORLD.fail("a value was looked at that is gone or overwritten");
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.look();
        if self.generation != WORLD.generation.load(SeqCst) {
            let forgot = lock(&WORLD.old_forgot);
            if !forgot
                .as_ref()
                .is_some_and(|old| old.contains(&self.generation))
            {
                drop(forgot);
                WORLD.fail("a value was dropped after the end of its seed");
            }
            return;
        }
        let entry = &WORLD.ledger[self.id as usize];
        let before = entry.fetch_xor(ALIVE | DROPPED, SeqCst);
        if before & (ALIVE | DROPPED) != ALIVE {
            WORLD.fail(format!("a value was dropped twice: kind {}", before & 15));
        }
        self.mark = 0xdead;
    }
}

/// Whether the engine panics like this when the trees want it to.
pub(crate) fn is_expected(text: &str) -> bool {
    EXPECTED.iter().any(|part| text.contains(part))
}

/// Records every panic that is none of ours as a fault.
pub(crate) fn hook(info: &PanicHookInfo<'_>) {
    if crate::values::is_planned(info.payload()) {
        return;
    }
    let payload = info.payload();
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("no text");
    if !is_expected(text) {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let trace = std::backtrace::Backtrace::capture();
        WORLD.fail(format!("unexpected panic: {text} ({place})\n{trace}"));
    }
}
