//! Cancellations of whole scopes while they are polled, helped and ended: every child that registered nowhere is
//! told, and nothing is kept for longer than the scope. A child that is not told is a deadlock.

use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use selvedge_cancel::{CancelToken, CauseKind, FutureCancelExt, ambient};

use super::engine::{helper, opened, run};
use super::{Seen, check_some};
use crate::lending::{self, Lending};
use crate::sync::model::thread;
use crate::sync::{AtomicUsize, Ordering};
use crate::window::seam;
use crate::{JoinHandle, Scope, scope};

/// Rests until it is told that it is cancelled; `true` if it came to rest before that.
async fn rest() -> bool {
    let mut rested = false;
    let mut told = pin!(pending::<()>().or_cancel());
    poll_fn(|cx| match told.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(()),
        Poll::Pending => {
            rested = true;
            Poll::Pending
        }
    })
    .await;
    rested
}

fn alone(handle: &Scope<'static>) {
    assert_eq!(
        seam::references(handle.handle()),
        1,
        "something still refers to the core, or too little does"
    );
}

#[test]
fn cancel_of_a_scope_reaches_a_child_at_rest_and_one_that_is_polled() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let (scoped, handle) = opened(async |s| s.spawn(rest()).await);
        let canceller = thread::spawn({
            let handle = handle.clone();
            move || handle.cancel()
        });
        let rested = lending::with(Lending::Never, || run(scoped));
        canceller.join().unwrap();
        SEEN.note(usize::from(rested));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn cancel_from_above_reaches_the_children_of_a_nested_scope() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let above = CancelToken::new();
        let (scoped, handle) = opened(async |s| s.spawn(rest()).await);
        // Loom takes a load of the canceller's own to order its write after everybody's loads before; by this
        // it sees that the cancellation may have come first.
        let done = Arc::new(AtomicUsize::new(0));
        let canceller = thread::spawn({
            let (above, done) = (above.clone(), Arc::clone(&done));
            move || {
                above.cancel();
                done.store(1, Ordering::Release);
            }
        });
        // Acquire: pairs with the store above; what is found is told by what the child comes to.
        done.load(Ordering::Acquire);
        let before = ambient::replace(Some(above));
        let rested = lending::with(Lending::Never, || run(scoped));
        drop(ambient::replace(before));
        canceller.join().unwrap();
        SEEN.note(usize::from(rested));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn cancel_while_a_helper_begins_a_child_reaches_it() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let rested = Arc::new(AtomicUsize::new(0));
        let (scoped, handle) = opened({
            let rested = Arc::clone(&rested);
            async move |s| {
                let inside = s.clone();
                drop(s.spawn(async move { inside.cancel() }));
                drop(s.spawn(async move {
                    let came_to_rest = rest().await;
                    // Relaxed: the end of the scope orders it.
                    rested.fetch_add(usize::from(came_to_rest), Ordering::Relaxed);
                }));
            }
        });
        let helper = helper(&handle);
        lending::with(Lending::Forced, || run(scoped));
        helper.join().unwrap();
        // Relaxed: as above.
        SEEN.note(rested.load(Ordering::Relaxed));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn cancel_of_one_child_from_outside_reaches_it_or_finds_it_ended() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let mut child: Option<JoinHandle<'static, bool>> = None;
        let (scoped, handle) = opened(|s| {
            child = Some(s.spawn(rest()));
            async {}
        });
        let child = child.expect("spawned at once");
        let canceller = thread::spawn(move || {
            child.cancel();
            child
        });
        lending::with(Lending::Never, || run(scoped));
        let child = canceller.join().unwrap();
        assert!(child.is_finished());
        SEEN.note(usize::from(run(child)));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn cancel_of_a_child_that_ends_meanwhile_keeps_no_cell() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let mut child: Option<JoinHandle<'static, ()>> = None;
        let (scoped, handle) = opened(|s| {
            child = Some(s.spawn(async {}));
            async {}
        });
        let child = child.expect("spawned at once");
        let canceller = thread::spawn(move || {
            let ended = child.is_finished();
            child.cancel();
            drop(child);
            ended
        });
        lending::with(Lending::Never, || run(scoped));
        SEEN.note(usize::from(canceller.join().unwrap()));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn waiting_cancel_against_the_end_of_the_child_returns() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let mut child: Option<JoinHandle<'static, bool>> = None;
        let (scoped, handle) = opened(|s| {
            child = Some(s.spawn(rest()));
            async {}
        });
        let child = child.expect("spawned at once");
        let canceller = thread::spawn(move || {
            run(child.cancel_and_wait());
            assert!(child.is_finished());
        });
        let early = lending::with(Lending::Never, || {
            run(scoped);
            seam::references(handle.handle()) == 1
        });
        canceller.join().unwrap();
        SEEN.note(usize::from(early));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn token_given_out_while_the_scope_ends_keeps_no_core() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let (scoped, handle) = opened(async |_| ());
        let asker = thread::spawn({
            let handle = handle.clone();
            move || {
                let token = handle.token();
                token.cancel();
                token.cause().expect("just cancelled").kind() == CauseKind::Requested
            }
        });
        let early = lending::with(Lending::Never, || {
            run(scoped);
            handle.is_cancelled()
        });
        assert!(asker.join().unwrap());
        SEEN.note(usize::from(early));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn cancel_against_the_drop_of_a_scope_at_rest_keeps_nothing() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let above = CancelToken::new();
        let (mut scoped, handle) = opened(async |s| {
            drop(s.spawn(rest()));
            pending::<()>().await;
        });
        let before = ambient::replace(Some(above.clone()));
        let polled = lending::with(Lending::Never, || super::engine::poll_once(scoped.as_mut()));
        drop(ambient::replace(before));
        assert!(polled.is_pending());
        let canceller = thread::spawn(move || above.cancel());
        drop(scoped);
        SEEN.note(usize::from(handle.is_cancelled()));
        canceller.join().unwrap();
        alone(&handle);
    });
    SEEN.assert_all();
}

/// A scope inside a child of another, cancelled through the child's handle.
#[test]
fn cancel_of_a_child_reaches_the_scope_inside_it() {
    static SEEN: Seen<2> = Seen::new();
    check_some(1, || {
        let mut child: Option<JoinHandle<'static, bool>> = None;
        let (scoped, handle) = opened(|s| {
            child = Some(s.spawn(scope(async |inner| inner.spawn(rest()).await)));
            async {}
        });
        let child = child.expect("spawned at once");
        let canceller = thread::spawn(move || {
            child.cancel();
            child
        });
        lending::with(Lending::Never, || run(scoped));
        SEEN.note(usize::from(run(canceller.join().unwrap())));
        alone(&handle);
    });
    SEEN.assert_all();
}

/// The marks of the notice's word: a phase that comes while the notice is taken is taken too, and the notice is
/// pushed once at a time.
#[test]
fn stop_and_cancel_close_together_are_both_taken() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let mut handle = None;
        let scoped = scope(|s| {
            handle = Some(s.clone());
            async move { s.spawn(rest()).await }
        });
        // Nothing happens then, but the scope minds the stop.
        let scoped = scoped.stop_within(Duration::MAX);
        let handle = handle.expect("the closure was called");
        let canceller = thread::spawn({
            let token = handle.token();
            move || {
                token.stop();
                token.cancel();
            }
        });
        let rested = lending::with(Lending::Never, || run(scoped));
        canceller.join().unwrap();
        SEEN.note(usize::from(rested));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn token_given_out_by_two_threads_and_cancelled_by_one_reaches_the_child() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let (scoped, handle) = opened(async |s| s.spawn(rest()).await);
        let asker = thread::spawn({
            let handle = handle.clone();
            move || drop(handle.token())
        });
        let canceller = thread::spawn({
            let handle = handle.clone();
            move || handle.token().cancel()
        });
        let rested = lending::with(Lending::Never, || run(scoped));
        asker.join().unwrap();
        canceller.join().unwrap();
        SEEN.note(usize::from(rested));
        alone(&handle);
    });
    SEEN.assert_all();
}

/// A child spawned by a child on a helper comes to rest there before the owner has heard of it.
#[test]
fn cancel_reaches_a_child_that_came_to_rest_before_it_was_registered() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let rested = Arc::new(AtomicUsize::new(0));
        let (scoped, handle) = opened({
            let rested = Arc::clone(&rested);
            async move |s| {
                let inside = s.clone();
                drop(s.spawn(async move {
                    let grandchild = async move {
                        let came_to_rest = rest().await;
                        // Relaxed: the end of the scope orders it.
                        rested.fetch_add(usize::from(came_to_rest), Ordering::Relaxed);
                    };
                    drop(inside.spawn(grandchild));
                }));
            }
        });
        let helper = helper(&handle);
        let canceller = thread::spawn({
            let handle = handle.clone();
            move || handle.cancel()
        });
        lending::with(Lending::Forced, || run(scoped));
        helper.join().unwrap();
        canceller.join().unwrap();
        // Relaxed: as above.
        SEEN.note(rested.load(Ordering::Relaxed));
        alone(&handle);
    });
    SEEN.assert_all();
}

#[test]
fn token_of_a_child_cancelled_past_its_handle_reaches_it() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let given = Arc::new(crate::sync::Mutex::new(None));
        let (scoped, handle) = opened({
            let given = Arc::clone(&given);
            async move |s| {
                s.spawn(async move {
                    *crate::sync::lock(&given) = Some(selvedge_cancel::current());
                    rest().await
                })
                .await
            }
        });
        let canceller = thread::spawn(move || {
            // Too early, there is nothing to cancel yet.
            while crate::sync::lock(&given).is_none() {
                thread::yield_now();
            }
            let token: Option<CancelToken> = crate::sync::lock(&given).take();
            token.expect("only taken here").cancel();
        });
        let rested = lending::with(Lending::Never, || run(scoped));
        canceller.join().unwrap();
        SEEN.note(usize::from(rested));
        alone(&handle);
    });
    SEEN.assert_all();
}

/// Entering the token's list may find that it was cancelled from above, and then runs what is registered there: a
/// callback may do to the scope whatever it likes (rule W15). A scope that was stopped enters it anew.
#[test]
fn callback_that_cancels_a_child_while_the_scope_listens_anew_returns() {
    static SEEN: Seen<2> = Seen::new();
    check_some(2, || {
        let above = CancelToken::new();
        let (mut guard, mut handle) = (None, None);
        let scoped = scope(|s| {
            handle = Some(s.clone());
            let child = s.spawn(rest());
            let cancel = move |_: &selvedge_cancel::Cause| child.cancel();
            guard = Some(s.token().on_cancel(cancel));
            async move { s.is_cancelled() }
        });
        let handle = handle.expect("the closure was called");
        above.stop();
        let canceller = thread::spawn({
            let above = above.clone();
            move || above.cancel()
        });
        let before = ambient::replace(Some(above));
        let early = lending::with(Lending::Never, || run(scoped));
        drop(ambient::replace(before));
        canceller.join().unwrap();
        assert!(handle.is_cancelled());
        SEEN.note(usize::from(early));
        drop(guard);
        alone(&handle);
    });
    SEEN.assert_all();
}
