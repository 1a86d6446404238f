//! What the parent's `wake()` does when a poll gives way: it is user code, and comes when the window is closed.
//! Not for parents that panic or poll at once: that is `wakers.rs`.

mod common;

use std::future::{Future, pending};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use common::{burn, guarded, yields};
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, Scope, scope};

const SPAWNS: usize = 16;

/// What the waker and the children it spawns share.
#[derive(Default)]
struct Seen {
    /// Nobody polls the scope.
    closed: AtomicBool,
    inside: AtomicUsize,
    outside: AtomicUsize,
}

/// A child that tells whether it was polled in a window. It is big, so that help pays.
async fn child(seen: Arc<Seen>) {
    let place = if seen.closed.load(Ordering::SeqCst) {
        &seen.outside
    } else {
        &seen.inside
    };
    place.fetch_add(1, Ordering::SeqCst);
    burn(std::time::Duration::from_micros(300));
}

/// Spawns children when it is woken for the first time.
struct Spawner {
    scope: Mutex<Option<Scope<'static>>>,
    seen: Arc<Seen>,
}

impl Wake for Spawner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let scope = self.scope.lock().unwrap().take();
        if let Some(scope) = scope {
            self.seen.closed.store(true, Ordering::SeqCst);
            for _ in 0..SPAWNS {
                scope.spawn(child(self.seen.clone()));
            }
        }
    }
}

// W1, W12: the budget is spent and the window closed; a spawn from inside `wake()` must not find an open window,
// lend the child, and let a helper poll it while nobody polls the scope.
#[test]
fn children_spawned_inside_the_parents_wake_wait_for_the_next_window() {
    guarded(|| {
        let rayon = Arc::new(
            rayon_core::ThreadPoolBuilder::new()
                .num_threads(1)
                .build()
                .unwrap(),
        );
        for mode in [Lending::Forced, Lending::Adaptive, Lending::Never] {
            for _ in 0..5 {
                with(mode, || one_wake(&rayon, mode));
            }
        }
    });
}

fn one_wake(rayon: &Arc<rayon_core::ThreadPool>, mode: Lending) {
    let seen = Arc::new(Seen::default());
    let spawner = Arc::new(Spawner {
        scope: Mutex::new(None),
        seen: seen.clone(),
    });
    let waker = Waker::from(spawner.clone());
    let mut cx = Context::from_waker(&waker);
    let parent = spawner.clone();
    let mut scoped = Box::pin(
        scope(move |s: Scope<'static>| {
            *parent.scope.lock().unwrap() = Some(s.clone());
            s.spawn(yields(usize::MAX));
            async move {
                let _alive = s;
                pending::<()>().await
            }
        })
        .on(&Pool::from_rayon(rayon.clone())),
    );
    assert_eq!(scoped.as_mut().poll(&mut cx), Poll::Pending);
    assert!(
        seen.closed.load(Ordering::SeqCst),
        "{mode:?}: the poll gave way and told its parent"
    );
    // The only thread of the pool takes its jobs in turn: whoever was asked for help has come and gone.
    rayon.install(|| ());
    assert_eq!(
        (
            seen.outside.load(Ordering::SeqCst),
            seen.inside.load(Ordering::SeqCst)
        ),
        (0, 0),
        "{mode:?}: polled while no window was open"
    );
    seen.closed.store(false, Ordering::SeqCst);
    while seen.inside.load(Ordering::SeqCst) < SPAWNS {
        assert_eq!(scoped.as_mut().poll(&mut cx), Poll::Pending);
    }
    seen.closed.store(true, Ordering::SeqCst);
    rayon.install(|| ());
    drop(scoped);
    assert_eq!(seen.outside.load(Ordering::SeqCst), 0, "{mode:?}");
    assert_eq!(seen.inside.load(Ordering::SeqCst), SPAWNS, "{mode:?}");
}
