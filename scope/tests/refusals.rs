//! What a scope refuses: spawns while it dies, a child that awaits itself, an iterator that fails.

mod common;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{everywhere, guarded, message, panic_of};
use selvedge_scope::{block_on, join_all, scope};

// V11: a child that awaits its own handle is told so.
#[test]
fn child_that_awaits_its_own_handle_panics() {
    everywhere(|_, pool| {
        let text = panic_of(|| {
            block_on(
                scope(async |s| {
                    let (give, take) = futures_channel::oneshot::channel();
                    let handle = s.spawn(async move {
                        let own: selvedge_scope::JoinHandle<'_, ()> = take.await.unwrap();
                        own.await;
                    });
                    assert!(give.send(handle).is_ok());
                })
                .on(pool),
            );
        });
        assert!(text.contains("its own handle"), "{text}");
    });
}

// V6, W7: a destructor that spawns into its dying scope is refused, so that `Drop` ends.
#[test]
fn destructor_that_spawns_for_ever_is_refused() {
    everywhere(|_, pool| {
        let count = common::Count::new();
        let begun = AtomicUsize::new(0);
        struct Again<'a>(selvedge_scope::Scope<'a>, Arc<common::Count>);
        impl Drop for Again<'_> {
            fn drop(&mut self) {
                let (s, count) = (self.0.clone(), self.1.clone());
                let handle = self.0.spawn(respawning(s, count));
                assert!(
                    handle.is_finished(),
                    "the child of a dying scope is dead at once"
                );
            }
        }
        fn respawning(
            s: selvedge_scope::Scope<'_>,
            count: Arc<common::Count>,
        ) -> impl Future<Output = ()> + Send {
            let one = count.one();
            async move {
                let _one = one;
                let _again = Again(s, count);
                common::never::<()>().await;
            }
        }
        let mut scoped = Box::pin(
            scope(async |s| {
                for _ in 0..5 {
                    let child = respawning(s.clone(), count.clone());
                    s.spawn(async {
                        begun.fetch_add(1, Ordering::SeqCst);
                        child.await;
                    });
                }
                common::never::<()>().await;
            })
            .on(pool),
        );
        // One poll is enough, unless the system puts the thread aside in it.
        while begun.load(Ordering::SeqCst) < 5 {
            assert!(common::poll_once(scoped.as_mut()).is_pending());
        }
        assert_eq!((count.made(), count.dropped()), (5, 0));
        drop(scoped);
        assert_eq!(count.made(), 10, "each destructor spawned once");
        count.assert_settled("children and refused children");
    });
}

// V7: clean-up spawned from a guard while its scope is dropped by unwinding does not abort.
#[test]
fn destructor_that_spawns_while_unwinding_is_refused_silently() {
    everywhere(|_, pool| {
        let ran = AtomicUsize::new(0);
        struct Clean<'a>(selvedge_scope::Scope<'a>, &'a AtomicUsize);
        impl Drop for Clean<'_> {
            fn drop(&mut self) {
                self.1.fetch_add(1, Ordering::SeqCst);
                let handle = self.0.spawn(async { unreachable!("it was refused") });
                assert!(handle.is_finished());
            }
        }
        let text = panic_of(|| {
            let mut scoped = Box::pin(
                scope(async |s| {
                    let guard = Clean(s.clone(), &ran);
                    s.spawn(async move {
                        let _guard = guard;
                        common::never::<()>().await;
                    });
                    let _guard = Clean(s.clone(), &ran);
                    common::never::<()>().await;
                })
                .on(pool),
            );
            assert!(common::poll_once(scoped.as_mut()).is_pending());
            panic!("the parent fails");
        });
        assert_eq!(text, "the parent fails");
        assert_eq!(ran.load(Ordering::SeqCst), 2);
    });
}

// W4 for a batch: an iterator that panics midway.
#[test]
fn iterator_of_join_all_that_panics_drops_what_it_gave() {
    guarded(|| {
        let count = common::Count::new();
        let payload = std::panic::catch_unwind(|| {
            join_all((0..10).map(|i| {
                assert!(i < 5, "the iterator fails");
                let one = count.one();
                async move { drop(one) }
            }))
        })
        .map(drop)
        .unwrap_err();
        assert_eq!(message(&*payload), "the iterator fails");
        count.assert_settled("futures");
        assert_eq!(count.made(), 5);
    });
}

// V11, the other way: a child is not the one that waits for it because its thread happens to be polling it. Here an
// executor inside the child polls a task that awaits the child.
#[test]
fn task_that_an_executor_inside_the_child_polls_may_await_the_child() {
    static EXECUTOR: smol::Executor<'static> = smol::Executor::new();
    async fn awaits(handle: selvedge_scope::JoinHandle<'static, u32>, ends_it: bool) -> u32 {
        if ends_it {
            handle.cancel_and_wait().await;
        }
        handle.await
    }
    guarded(|| {
        for ends_it in [false, true] {
            let polled_inside = Arc::new(AtomicUsize::new(0));
            let waits = block_on(scope(async |s: selvedge_scope::Scope<'static>| {
                let inside = polled_inside.clone();
                let child = s.spawn(async move {
                    smol::block_on(EXECUTOR.run(async {
                        while inside.load(Ordering::SeqCst) == 0 {
                            smol::future::yield_now().await;
                        }
                    }));
                    7
                });
                let waits = EXECUTOR.spawn(async move {
                    polled_inside.store(1, Ordering::SeqCst);
                    awaits(child, ends_it).await
                });
                vec![waits]
            }));
            for task in waits {
                assert_eq!(smol::block_on(EXECUTOR.run(task)), 7);
            }
        }
    });
}

// The same where a waker polls: the child's own send wakes the task that awaits the child.
#[test]
fn task_that_is_polled_while_the_child_wakes_it_may_await_the_child() {
    type Boxed = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    struct PollsInWake(std::sync::Mutex<Option<Boxed>>);
    impl std::task::Wake for PollsInWake {
        fn wake(self: Arc<Self>) {
            let waker = std::task::Waker::from(self.clone());
            let Ok(mut place) = self.0.try_lock() else {
                return;
            };
            let cx = &mut std::task::Context::from_waker(&waker);
            if place
                .as_mut()
                .is_some_and(|future| future.as_mut().poll(cx).is_ready())
            {
                *place = None;
            }
        }
    }
    guarded(|| {
        let got = Arc::new(AtomicUsize::new(0));
        block_on(scope(async |s: selvedge_scope::Scope<'static>| {
            let (send, receive) = futures_channel::oneshot::channel();
            let child = s.spawn(async move {
                common::yields(1).await;
                send.send(()).unwrap();
                common::yields(1).await;
                7
            });
            let got = got.clone();
            let task: Boxed = Box::pin(async move {
                receive.await.unwrap();
                got.store(child.await, Ordering::SeqCst);
            });
            std::task::Wake::wake(Arc::new(PollsInWake(std::sync::Mutex::new(Some(task)))));
        }));
        assert_eq!(got.load(Ordering::SeqCst), 7);
    });
}
