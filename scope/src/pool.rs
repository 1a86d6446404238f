//! The pool whose threads help windows: a rayon-core pool that starts when help is first asked for.
//!
//! A scope never needs it: a pool that is busy, tiny or cannot start costs speed only (rule W3).

use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use crate::pool_builder::{PoolBuilder, Threads};
use crate::pool_queue::{Help, Queue};
use crate::sync::plain::{AtomicU64, AtomicUsize, Mutex, Ordering};
use crate::task::quietly;

/// How long after it has helped a thread is taken to be awake still.
const HOT: Duration = Duration::from_micros(30);

/// How long after its threads could not be had a pool does without.
const RETRY: Duration = Duration::from_millis(100);

/// A handle to a set of threads that help scopes.
///
/// The thread that polls a scope always works on it too, so a pool of *n* threads makes up to
/// *n* + 1 threads work on a scope. Clones share the threads. Dropping the last handle lets the threads end
/// once their work is done; it does not wait for them.
///
/// # Examples
/// ```
/// use selvedge_scope::{Pool, block_on, scope};
///
/// let pool = Pool::builder().threads(2).build();
/// let sum = block_on(scope(async |s| {
///     let a = s.spawn(async { 1 });
///     let b = s.spawn(async { 2 });
///     a.await + b.await
/// }).on(&pool));
/// assert_eq!((pool.threads(), sum), (2, 3));
/// ```
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    threads: usize,
    /// Helpers a window may have at a time.
    most: usize,
    workers: Workers,
    queue: Arc<Queue>,
    /// When the threads could not be started; held while they are.
    failed: Mutex<Option<Instant>>,
    /// When a helper last left a window, in nanoseconds since `epoch`.
    helped: AtomicU64,
    epoch: Instant,
}

enum Workers {
    None,
    /// Ours, once it has been started, and what its threads are to be like.
    Own(OnceLock<rayon_core::ThreadPool>, Threads),
    Given(Arc<rayon_core::ThreadPool>),
}

/// What the present thread is to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    /// No thread of any rayon pool.
    No,
    /// One of this pool's.
    Own,
    /// One of another rayon pool's.
    Foreign,
}

impl Pool {
    fn with(threads: usize, most: usize, workers: Workers) -> Self {
        let (helped, epoch) = (AtomicU64::new(0), Instant::now());
        Self(Arc::new(Inner {
            threads,
            most,
            workers,
            queue: Arc::default(),
            failed: Mutex::new(None),
            helped,
            epoch,
        }))
    }

    pub(crate) fn global_ref() -> &'static Self {
        static GLOBAL: OnceLock<Pool> = OnceLock::new();
        GLOBAL.get_or_init(|| {
            let cores = available_parallelism().map_or(1, usize::from);
            // As many threads as cores, so that a nested scope on a helper finds help while the outer
            // owner waits; but one window has no use for more than the cores its owner leaves free.
            let workers = Workers::Own(OnceLock::new(), Threads::default());
            Self::with(cores, (cores - 1).max(1), workers)
        })
    }

    /// The pool that scopes use unless told otherwise: one thread a core, started when first needed.
    ///
    /// It is Selvedge's own, never rayon's global pool, where user code that waits in `rayon::join` under a
    /// lock could start a helper on top of itself.
    #[must_use]
    pub fn global() -> Self {
        Self::global_ref().clone()
    }

    /// Configures a new pool: how many threads, their stack, their names, and what each does first.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }

    /// A pool of so many threads of our own.
    pub(crate) fn own(count: usize, threads: Threads) -> Self {
        let workers = match count {
            0 => Workers::None,
            _ => Workers::Own(OnceLock::new(), threads),
        };
        Self::with(count, count, workers)
    }

    /// Uses the threads of a rayon pool.
    ///
    /// Code on that pool that holds a lock while it waits in `rayon::join` can deadlock with a child that
    /// takes the same lock: rayon may run the child on top of the waiting frame.
    ///
    /// Stack size, names and start handler of the threads are those of the given pool.
    #[must_use]
    pub fn from_rayon(pool: Arc<rayon_core::ThreadPool>) -> Self {
        let threads = pool.current_num_threads();
        Self::with(threads, threads, Workers::Given(pool))
    }

    /// How many threads help; the polling thread comes on top.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// How many of them help one scope, or one stream, at a time: those that the polling thread's core
    /// leaves free, for the global pool.
    #[doc(hidden)]
    #[must_use]
    pub fn most_helpers(&self) -> usize {
        self.0.most
    }

    fn rayon(&self) -> Option<&rayon_core::ThreadPool> {
        match &self.0.workers {
            Workers::None => None,
            Workers::Own(pool, _) => pool.get(),
            Workers::Given(pool) => Some(pool),
        }
    }

    fn start(&self) -> Option<&rayon_core::ThreadPool> {
        if let Workers::Own(pool, threads) = &self.0.workers {
            if pool.get().is_none() {
                self.build(pool, threads);
            }
        }
        self.rayon()
    }

    /// Starts the threads. If they cannot be had, later asks try it again, but not each of them.
    #[cold]
    fn build(&self, pool: &OnceLock<rayon_core::ThreadPool>, threads: &Threads) {
        let mut failed = self.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.get().is_some() || failed.is_some_and(|at: Instant| at.elapsed() < RETRY) {
            return;
        }
        let (name, handler) = (threads.name(), threads.start_handler());
        let size = threads.stack_size();
        // The system rounds it up.
        let at_least = size.max(LEAST_STACK);
        // One closure for all pools: `BOTTOM` is the depth below its frame.
        let builder = rayon_core::ThreadPoolBuilder::new()
            .num_threads(self.0.threads)
            .stack_size(size)
            .thread_name(move |index| format!("{name}-{index}"))
            .start_handler(move |index| {
                let base = stack_mark();
                // Jobs that it takes are on top of it, and come through other frames.
                STACK.set((1, 0));
                handler.call(index);
                STACK.set((base, at_least));
            });
        match catch_unwind(AssertUnwindSafe(|| builder.build())) {
            Ok(Ok(built)) => drop(pool.set(built)),
            none => {
                *failed = Some(Instant::now());
                quietly(|| drop(none));
            }
        }
    }

    /// Has a thread of the pool help `who`, as soon as one is free: a number of nobody else's for as long as `help` is kept,
    /// which is until it was called as often as it was asked for, or [taken back](Self::unask).
    ///
    /// # Errors
    /// So many that were asked for will not come, this one among them.
    pub(crate) fn ask(&self, who: usize, help: impl FnOnce() -> Help) -> Result<(), u32> {
        let workers = self.start().ok_or(1_u32)?;
        let threads = self.0.threads;
        if !self.0.queue.enter(who, threads, help) || send(&self.0.queue, threads, workers) {
            Ok(())
        } else {
            Err(self.unask(who))
        }
    }

    /// How many helpers were still to come; nobody comes any more.
    pub(crate) fn unask(&self, who: usize) -> u32 {
        self.0.queue.leave(who).map_or(0, |(wanted, help)| {
            // Out of the lock.
            drop(help);
            wanted
        })
    }

    /// What this thread is to the pool.
    pub(crate) fn worker(&self) -> Worker {
        if rayon_core::current_thread_index().is_none() {
            Worker::No
        } else if self
            .rayon()
            .is_some_and(|pool| pool.current_thread_index().is_some())
        {
            Worker::Own
        } else {
            Worker::Foreign
        }
    }

    /// Whether it has other users, who gave it.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.0.workers, Workers::Given(_))
    }

    /// Whether this is a worker of somebody else's rayon pool.
    pub(crate) fn on_foreign_worker(&self) -> bool {
        self.worker() == Worker::Foreign
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.0.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A helper leaves a window.
    pub(crate) fn note_help(&self) {
        // Relaxed: a hint for `is_hot`.
        self.0.helped.store(self.nanos(), Ordering::Relaxed);
    }

    /// Whether a thread of the pool is probably awake.
    pub(crate) fn is_hot(&self) -> bool {
        let helped = self.0.helped.load(Ordering::Relaxed);
        helped != 0 && u128::from(self.nanos().saturating_sub(helped)) < HOT.as_nanos()
    }
}

/// Hands a job to rayon for somebody who has entered the queue. `false`: it will not come.
fn send(queue: &Arc<Queue>, threads: usize, workers: &rayon_core::ThreadPool) -> bool {
    let job = job(Arc::clone(queue), threads);
    let sent = catch_unwind(AssertUnwindSafe(|| workers.spawn(job))).is_ok();
    if !sent {
        queue.lost();
    }
    sent
}

/// One type for all jobs, however they are handed over: `BOTTOM` is the depth below its frame.
fn job(queue: Arc<Queue>, threads: usize) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        let on_top = is_on_top();
        // Left to another one, but not twice in a row: what waits here may do so in a loop over this thread's jobs.
        let may_help = !LOOKS.replace(false);
        let (help, more) = queue.begin(threads, may_help);
        if more {
            rayon_core::spawn(job(queue, threads));
        }
        if let Some(help) = help {
            help(on_top);
        }
    })
}

/// Lets this thread of a rayon pool run a job, in `yields`, while its owner waits.
pub(crate) fn run_a_job(yields: fn() -> Option<rayon_core::Yield>) {
    LOOKS.set(true);
    let _ = yields();
    LOOKS.set(false);
}

thread_local! {
    /// This thread waits for helpers of its own, and a job that it takes is for another one.
    static LOOKS: Cell<bool> = const { Cell::new(false) };
    /// Where the stack stood when this thread of a pool of ours started, and its size; nowhere while it starts, zero elsewhere.
    static STACK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// How far below that a job starts that the thread took from its main loop. All such jobs come through the
/// same frames, so it is one number, and the least that is seen; the first job of a pool is such a one.
static BOTTOM: AtomicUsize = AtomicUsize::new(usize::MAX);

/// No system has smaller ones.
const LEAST_STACK: usize = 16 << 10;

#[inline(never)]
fn stack_mark() -> usize {
    let mark = 0u8;
    std::ptr::from_ref(std::hint::black_box(&mark)).addr()
}

/// Whether this job was taken by a thread that waits inside another one, as rayon's `join` does. The code
/// below may hold a lock that a child would take (rule L1).
#[inline(never)]
fn is_on_top() -> bool {
    let (base, size) = STACK.get();
    // Under Miri an address says nothing of the stack: each variable has one at random.
    if base == 0 || cfg!(miri) {
        return false;
    }
    let depth = match base.checked_sub(stack_mark()) {
        Some(depth) if depth <= size => depth,
        // On another stack: a coroutine's, in whose midst the thread takes jobs.
        _ => return true,
    };
    // Relaxed: a number that only falls, and soon not any more.
    depth > BOTTOM.fetch_min(depth, Ordering::Relaxed)
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("threads", &self.0.threads)
            .finish_non_exhaustive()
    }
}
