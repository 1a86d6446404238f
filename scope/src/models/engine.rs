//! Whole scopes: polled by one thread while others wake, help, spawn, await and drop. All of it is the real
//! engine; only the pool is left out, since a job of it may start at any time: a thread of the model asks in
//! its name.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::{Seen, Signal, check_some};
use crate::lending::{self, Lending};
use crate::sync::model::thread;
use crate::sync::{AtomicUsize, Mutex, Ordering, lock};
use crate::window::seam;
use crate::window::seam::Mark;
use crate::{Scope, Scoped, scope};

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.give();
    }
}

/// Polls to the end on this thread; a wake-up that never comes is a deadlock.
pub(super) fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let signal = Arc::new(Signal::new());
    let waker = Waker::from(Arc::clone(&signal));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => signal.take(),
        }
    }
}

pub(super) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// One event: somebody waits for it as a future, somebody else makes it happen.
struct Event {
    state: Mutex<(bool, Option<Waker>)>,
    /// Written before the event, read after it.
    data: Mark,
}

impl Event {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new((false, None)),
            data: Mark::new(),
        })
    }

    fn happen(&self) {
        self.data.write();
        let waker = {
            let mut state = lock(&self.state);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn has_waiter(&self) -> bool {
        lock(&self.state).1.is_some()
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        self.data.read();
    }
}

/// After the scope: this handle has the only reference that is left.
fn assert_freed(handle: &Scope<'static>) {
    assert_eq!(
        seam::references(handle.handle()),
        1,
        "a chunk was not freed, or twice"
    );
}

type Handed = Arc<Mutex<Option<Scope<'static>>>>;

#[test]
fn child_woken_from_another_thread_ends_its_scope() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let event = Event::new();
        let waker = thread::spawn({
            let event = Arc::clone(&event);
            move || {
                let waited = event.has_waiter();
                event.happen();
                waited
            }
        });
        lending::with(Lending::Never, || {
            run(scope(async |s| {
                let event = Arc::clone(&event);
                s.spawn(async move { event.wait().await }).await;
            }));
        });
        SEEN.note(usize::from(waker.join().unwrap()));
    });
    SEEN.assert_all();
}

#[test]
fn scope_dropped_while_its_child_is_woken_leaves_nothing() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let event = Event::new();
        let kept: Handed = Arc::new(Mutex::new(None));
        let mut scoped = Box::pin(scope({
            let (event, kept) = (Arc::clone(&event), Arc::clone(&kept));
            async move |s| {
                *lock(&kept) = Some(s.clone());
                for _ in 0..2 {
                    let event = Arc::clone(&event);
                    drop(s.spawn(async move { event.wait().await }));
                }
                std::future::pending::<()>().await;
            }
        }));
        assert!(lending::with(Lending::Never, || poll_once(scoped.as_mut())).is_pending());
        let waker = thread::spawn({
            let event = Arc::clone(&event);
            move || {
                let waited = event.has_waiter();
                event.happen();
                waited
            }
        });
        drop(scoped);
        SEEN.note(usize::from(waker.join().unwrap()));
        drop(lock(&event.state).1.take());
        let handle = lock(&kept).take().expect("handed out by the body");
        assert_freed(&handle);
    });
}

/// A scope, polled by nobody yet, and a handle to it.
pub(super) fn opened<F: Future>(
    body: impl FnOnce(Scope<'static>) -> F,
) -> (Pin<Box<Scoped<'static, F>>>, Scope<'static>) {
    let mut handle = None;
    let scoped = scope(|s| {
        handle = Some(s.clone());
        body(s)
    });
    (Box::pin(scoped), handle.expect("the closure was called"))
}

/// A pool job of the scope that starts at any time, once.
pub(super) fn helper(handle: &Scope<'static>) -> thread::JoinHandle<bool> {
    let handle = handle.clone();
    thread::spawn(move || seam::help(handle.handle()))
}

/// What children borrow, and how they end: all reads come before the scope's end.
struct Lent {
    data: Mark,
    ended: AtomicUsize,
}

impl Lent {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            data: Mark::new(),
            ended: AtomicUsize::new(0),
        })
    }

    fn touch(&self) {
        self.data.read();
        // Relaxed: the end of the scope is to order it.
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    /// After the scope: what was borrowed is the caller's again.
    fn reclaim(&self) -> usize {
        self.data.write();
        // Relaxed: as above.
        self.ended.load(Ordering::Relaxed)
    }
}

#[test]
fn children_polled_by_owner_and_helper_end_before_their_scope() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (scoped, handle) = opened({
            let lent = Arc::clone(&lent);
            async move |s| {
                for _ in 0..2 {
                    let lent = Arc::clone(&lent);
                    drop(s.spawn(async move { lent.touch() }));
                }
            }
        });
        let helper = helper(&handle);
        lending::with(Lending::Forced, || run(scoped));
        assert_eq!(lent.reclaim(), 2);
        SEEN.note(usize::from(helper.join().unwrap()));
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn handle_awaited_by_the_body_of_a_child_on_a_helper_yields_once() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (scoped, handle) = opened({
            let lent = Arc::clone(&lent);
            async move |s| {
                let child = s.spawn(async move {
                    lent.touch();
                    Arc::clone(&lent)
                });
                child.await.touch();
            }
        });
        let helper = helper(&handle);
        lending::with(Lending::Forced, || run(scoped));
        assert_eq!(lent.reclaim(), 2);
        assert_eq!(Arc::strong_count(&lent), 1, "an output was not dropped");
        SEEN.note(usize::from(helper.join().unwrap()));
    });
    SEEN.assert_all();
}

#[test]
fn child_woken_from_outside_while_a_helper_is_inside_is_polled_again() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let event = Event::new();
        let lent = Lent::new();
        let (scoped, handle) = opened({
            let (event, lent) = (Arc::clone(&event), Arc::clone(&lent));
            async move |s| {
                drop(s.spawn(async move {
                    event.wait().await;
                    lent.touch();
                }));
            }
        });
        let helper = helper(&handle);
        let waker = thread::spawn(move || event.happen());
        lending::with(Lending::Forced, || run(scoped));
        assert_eq!(lent.reclaim(), 1);
        SEEN.note(usize::from(helper.join().unwrap()));
        waker.join().unwrap();
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn spawn_from_outside_against_the_end_runs_or_comes_back() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (scoped, handle) = opened(async |_| ());
        let spawner = thread::spawn({
            let (handle, lent) = (handle.clone(), Arc::clone(&lent));
            move || handle.try_spawn(async move { lent.touch() }).is_ok()
        });
        lending::with(Lending::Never, || run(scoped));
        let ended = lent.reclaim();
        let accepted = spawner.join().unwrap();
        assert_eq!(
            ended,
            usize::from(accepted),
            "neither run nor refused, or both"
        );
        assert_eq!(Arc::strong_count(&lent), 1, "the future was not dropped");
        SEEN.note(usize::from(accepted));
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn spawn_from_outside_against_the_drop_is_dropped_or_comes_back() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (scoped, handle) = opened(async |_| ());
        let spawner = thread::spawn({
            let (handle, lent) = (handle.clone(), Arc::clone(&lent));
            move || handle.try_spawn(async move { lent.touch() }).is_ok()
        });
        drop(scoped);
        let accepted = spawner.join().unwrap();
        assert_eq!(lent.reclaim(), 0, "a child of a dropped scope ran");
        assert_eq!(Arc::strong_count(&lent), 1, "the future was not dropped");
        SEEN.note(usize::from(accepted));
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn handle_dropped_elsewhere_while_its_child_ends_drops_the_output_once() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (mut scoped, handle) = opened(async |_| ());
        let child = handle.spawn({
            let lent = Arc::clone(&lent);
            async move { lent }
        });
        let dropper = thread::spawn(move || {
            let finished = child.is_finished();
            drop(child);
            finished
        });
        lending::with(Lending::Never, || run(scoped.as_mut()));
        SEEN.note(usize::from(dropper.join().unwrap()));
        assert_eq!(Arc::strong_count(&lent), 1, "the output was not dropped");
        drop(scoped);
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn waker_dropped_elsewhere_while_the_scope_ends_frees_its_chunk_once() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let event = Event::new();
        let (mut scoped, handle) = opened({
            let event = Arc::clone(&event);
            async move |s| {
                // The child leaves a waker behind and ends.
                drop(s.spawn(poll_fn(move |cx| {
                    lock(&event.state).1 = Some(cx.waker().clone());
                    Poll::Ready(())
                })));
            }
        });
        let keeper = thread::spawn(move || {
            let waker = lock(&event.state).1.take();
            waker.map(Waker::wake).is_some()
        });
        lending::with(Lending::Never, || run(scoped.as_mut()));
        drop(scoped);
        // If the waker came too late for the thread, it went with the event, which the thread held.
        SEEN.note(usize::from(keeper.join().unwrap()));
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

/// Children that are polled twice, while the window is open or while it gives way. The budget is spent after the first one of the
/// owner's.
fn spends(s: &Scope<'static>, lent: &Arc<Lent>) {
    for _ in 0..2 {
        let (handle, lent) = (s.clone(), Arc::clone(lent));
        drop(s.spawn(async move {
            seam::spend(handle.handle());
            drop(handle);
            lent.touch();
            yields().await;
            lent.touch();
        }));
    }
}

async fn yields() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[test]
fn window_that_gives_way_while_a_helper_comes_and_goes_loses_nobody() {
    static SEEN: Seen<3> = Seen::new();
    check_some(2, || {
        let lent = Lent::new();
        let (scoped, handle) = opened({
            let lent = Arc::clone(&lent);
            async move |s| spends(&s, &lent)
        });
        let helper = helper(&handle);
        lending::with(Lending::Forced, || run(scoped));
        assert_eq!(lent.reclaim(), 4);
        let helped = helper.join().unwrap();
        SEEN.note(usize::from(helped) + usize::from(seam::drained(handle.handle())));
        assert_freed(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn child_woken_from_outside_while_the_window_gives_way_is_polled_again() {
    static SEEN: Seen<3> = Seen::new();
    check_some(2, || {
        let event = Event::new();
        let lent = Lent::new();
        let (scoped, handle) = opened({
            let (event, lent) = (Arc::clone(&event), Arc::clone(&lent));
            async move |s| {
                let (handle, other) = (s.clone(), Arc::clone(&lent));
                drop(s.spawn(async move {
                    seam::spend(handle.handle());
                    drop(handle);
                    other.touch();
                }));
                drop(s.spawn(async move {
                    event.wait().await;
                    lent.touch();
                }));
            }
        });
        let helper = helper(&handle);
        let waker = thread::spawn(move || event.happen());
        lending::with(Lending::Forced, || run(scoped));
        assert_eq!(lent.reclaim(), 2);
        let helped = helper.join().unwrap();
        SEEN.note(usize::from(helped) + usize::from(seam::drained(handle.handle())));
        waker.join().unwrap();
        assert_freed(&handle);
    });
    SEEN.assert_all();
}
