//! What the tests share: a watchdog, counted drops, futures that yield, and the products of situations.
//! No test lives here.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of this"
)]

pub mod alone;
pub mod hosts;
pub mod said;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use selvedge_scope::Pool;
use selvedge_scope::lending::Lending;

pub const MODES: [Lending; 3] = [Lending::Never, Lending::Adaptive, Lending::Forced];
pub const POOLS: [usize; 4] = [0, 1, 2, 4];

/// Where something happens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    Body,
    Child,
    /// A child, while a helper polls it.
    Helper,
    Thread,
}

pub const PLACES: [Place; 4] = [Place::Body, Place::Child, Place::Helper, Place::Thread];

pub fn pool(threads: usize) -> Pool {
    Pool::builder().threads(threads).build()
}

/// Runs `test` on a thread of its own, and fails if it does not end: a hang must not stop the others.
#[track_caller]
pub fn guarded<R: Send + 'static>(test: impl FnOnce() -> R + Send + 'static) -> R {
    guarded_for(Duration::from_secs(60), test)
}

#[track_caller]
pub fn guarded_for<R: Send + 'static>(
    most: Duration,
    test: impl FnOnce() -> R + Send + 'static,
) -> R {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        let _ = send.send(test());
    });
    match receive.recv_timeout(most) {
        Ok(value) => {
            let _ = thread.join();
            value
        }
        Err(RecvTimeoutError::Timeout) => panic!("hangs: not done after {most:?}"),
        Err(RecvTimeoutError::Disconnected) => match thread.join() {
            Err(payload) => std::panic::resume_unwind(payload),
            Ok(()) => unreachable!("a test that returns has sent its value"),
        },
    }
}

/// Runs `test` in every mode of lending and with pools of every size.
pub fn everywhere(test: impl Fn(Lending, &Pool) + Send + 'static) {
    guarded_for(Duration::from_secs(120), move || {
        for mode in MODES {
            for threads in POOLS {
                let pool = pool(threads);
                selvedge_scope::lending::with(mode, || test(mode, &pool));
            }
        }
    });
}

/// Counts makings and drops of [`Counted`].
#[derive(Debug, Default)]
pub struct Count {
    pub made: AtomicUsize,
    pub dropped: AtomicUsize,
}

impl Count {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn one(self: &Arc<Self>) -> Counted {
        self.made.fetch_add(1, Ordering::SeqCst);
        Counted(self.clone())
    }

    pub fn made(&self) -> usize {
        self.made.load(Ordering::SeqCst)
    }

    pub fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    /// Everything that was made is gone, and there was something.
    #[track_caller]
    pub fn assert_settled(&self, what: &str) {
        assert!(self.made() > 0, "{what}: nothing was made");
        assert_eq!(self.made(), self.dropped(), "{what}: made and dropped");
    }
}

#[derive(Debug)]
pub struct Counted(Arc<Count>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Borrowed data that knows whether it is alive: whoever looks at it too late is found out.
#[derive(Debug)]
pub struct Data {
    alive: AtomicBool,
    pub looks: AtomicUsize,
    text: String,
}

impl Data {
    pub fn new() -> Self {
        Self {
            alive: AtomicBool::new(true),
            looks: AtomicUsize::new(0),
            text: String::from("warp and weft"),
        }
    }

    #[track_caller]
    pub fn look(&self) {
        assert!(self.alive.load(Ordering::SeqCst), "looked at dead data");
        assert_eq!(self.text, "warp and weft", "looked at freed data");
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::SeqCst)
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.alive.store(false, Ordering::SeqCst);
    }
}

/// Looks at borrowed data when it is dropped.
#[derive(Debug)]
pub struct Noisy<'a>(pub &'a Data);

impl Drop for Noisy<'_> {
    fn drop(&mut self) {
        self.0.look();
    }
}

/// Yields that many times.
pub async fn yields(times: usize) {
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Never ends, and leaves its waker in `kept`.
pub async fn park_in<T>(kept: &Mutex<Vec<Waker>>) -> T {
    poll_fn(|cx| {
        kept.lock().unwrap().push(cx.waker().clone());
        Poll::Pending
    })
    .await
}

pub async fn never<T>() -> T {
    std::future::pending().await
}

/// Spins for about that long.
pub fn burn(time: Duration) {
    let from = std::time::Instant::now();
    while from.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Given once, by whatever thread; others wait for it, and not for ever.
#[derive(Debug, Default)]
pub struct Signal(Mutex<bool>, Condvar);

impl Signal {
    pub fn give(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    /// Blocks the thread. `false`: it did not come.
    pub fn wait(&self, most: Duration) -> bool {
        let given = self.0.lock().unwrap();
        let (given, _) = self
            .1
            .wait_timeout_while(given, most, |given| !*given)
            .unwrap();
        *given
    }
}

/// The most polls of others between two turns of somebody, who tells of each of his.
pub struct Between<'a> {
    polls: &'a AtomicUsize,
    before: usize,
    most: usize,
}

impl<'a> Between<'a> {
    /// From now on.
    pub fn of(polls: &'a AtomicUsize) -> Self {
        let before = polls.load(Ordering::SeqCst);
        Self {
            polls,
            before,
            most: 0,
        }
    }

    pub fn turn(&mut self) {
        let now = self.polls.load(Ordering::SeqCst);
        self.most = self.most.max(now - self.before);
        self.before = now;
    }

    pub fn most(&self) -> usize {
        self.most
    }
}

/// A waker that counts.
#[derive(Debug, Default)]
pub struct Bell(AtomicUsize);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    pub fn new() -> (Arc<Self>, Waker) {
        let bell = Arc::new(Self::default());
        (bell.clone(), Waker::from(bell))
    }

    pub fn rung(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// One poll with a waker that does nothing.
pub fn poll_once<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Polls until the future ends, or that many times.
pub fn poll_times<F: Future + ?Sized>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    for _ in 0..times {
        if let Poll::Ready(output) = poll_once(future.as_mut()) {
            return Some(output);
        }
    }
    None
}

/// Polls until the future ends or rests, which is when nobody has rung since its last poll began. `None`: it rests.
#[track_caller]
pub fn poll_to_rest<F: Future + ?Sized>(
    mut future: Pin<&mut F>,
    (bell, waker): &(Arc<Bell>, Waker),
) -> Option<F::Output> {
    for _ in 0..200 {
        let before = bell.rung();
        match future.as_mut().poll(&mut Context::from_waker(waker)) {
            Poll::Ready(output) => return Some(output),
            Poll::Pending if bell.rung() == before => return None,
            Poll::Pending => {}
        }
    }
    panic!("it neither ends nor rests");
}

/// The message of a panic.
pub fn message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("no text"))
}

/// What `f` panicked with.
#[track_caller]
pub fn panic_of<R>(f: impl FnOnce() -> R) -> String {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => message(&*payload),
    }
}

/// Attempts at what needs another thread to come at the right moment: as many as fit into half a minute.
pub fn attempts() -> impl Iterator<Item = ()> {
    let until = std::time::Instant::now() + Duration::from_secs(30);
    std::iter::from_fn(move || (std::time::Instant::now() < until).then_some(()))
}

/// Whether this thread helps a pool of ours.
pub fn on_helper() -> bool {
    std::thread::current()
        .name()
        .is_some_and(|name| name.starts_with("selvedge-"))
}

/// Runs something on a thread of its own, and waits for it, in the same poll.
pub fn on_a_thread<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| threads.spawn(run).join().unwrap())
}

/// Waits for a turn without asking anything; then for a helper, if there are any, but not for ever.
pub async fn turn(turns: &AtomicUsize, own: usize, helped: bool) {
    let mut tries = 0;
    while turns.load(Ordering::SeqCst) != own {
        yields(1).await;
        tries += 1;
        if tries % 100 == 0 {
            // The others may be on threads that the system has put aside.
            std::thread::yield_now();
        }
        assert!(
            tries < 2_000_000,
            "somebody else has failed, and never gave the turn on"
        );
    }
    for _ in 0..200 {
        if !helped || on_helper() {
            break;
        }
        std::thread::yield_now();
        yields(1).await;
    }
}
