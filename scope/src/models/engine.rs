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
use crate::sync::{Mutex, lock};
use crate::window::seam;
use crate::window::seam::Mark;
use crate::{Scope, scope};

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.give();
    }
}

/// Polls to the end on this thread; a wake-up that never comes is a deadlock.
fn run<F: Future>(future: F) -> F::Output {
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

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
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

type Handed = Arc<Mutex<Option<Scope<'static>>>>;

#[test]
fn child_woken_from_another_thread_ends_its_scope() {
    static SEEN: Seen<2> = Seen::new();
    check_some(|| {
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
    check_some(|| {
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
        assert_eq!(
            seam::references(handle.handle()),
            1,
            "a chunk was not freed, or twice"
        );
    });
}
