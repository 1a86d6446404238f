//! T19: long waits for helpers on every kind of tokio runtime. On a multi-thread runtime the other tasks
//! of the worker go on; nowhere does a wait panic through the scope.

mod common;

use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::task::{Context, Poll};
use std::thread;

use common::hosts::multi;
use selvedge_scope::lending::{Lending, with};
use selvedge_scope::{Pool, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;

fn single() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// A scope of which one child waits for a message, if a helper polls it. `true`: a helper did.
async fn one_long_poll(pool: &Pool, message: &Mutex<Receiver<()>>) -> bool {
    let owner = thread::current().id();
    scope(async |s| {
        let long = |_| async move {
            let helped = thread::current().id() != owner;
            if helped {
                message.lock().unwrap().recv().unwrap();
            }
            helped
        };
        let both = [s.spawn(async { false }), s.spawn(long(()))];
        let mut helped = false;
        for handle in both {
            helped |= handle.await;
        }
        helped
    })
    .on(pool)
    .await
}

/// Until a helper has really taken the long child; a message for each try.
async fn until_helped(pool: &Pool, send: impl Fn()) {
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    for () in common::attempts() {
        let sender = sender.clone();
        send();
        sender.send(()).unwrap();
        if one_long_poll(pool, &receiver).await {
            return;
        }
    }
    panic!("no helper came in time");
}

// Without the feature nobody knows of tokio, and the wait holds the worker.
#[cfg(feature = "tokio")]
#[test]
fn other_tasks_of_a_worker_go_on_during_a_long_poll() {
    common::guarded(|| {
        let pool = Pool::builder().threads(1).build();
        multi(1).block_on(async {
            let task = tokio::spawn(async move {
                for () in common::attempts() {
                    let (sender, receiver) = channel();
                    let receiver = Mutex::new(receiver);
                    // The sender is a task of the only worker, which the scope's poll is about to hold.
                    let other = tokio::spawn(async move { sender.send(()).unwrap() });
                    let helped = forced(one_long_poll(&pool, &receiver)).await;
                    other.await.unwrap();
                    if helped {
                        return true;
                    }
                }
                false
            });
            assert!(task.await.unwrap(), "no helper came in time");
        });
    });
}

/// Forces lending during each poll, on whichever thread it is.
struct Forced<F>(Pin<Box<F>>);

fn forced<F>(future: F) -> Forced<F> {
    Forced(Box::pin(future))
}

impl<F: Future> Future for Forced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        with(Lending::Forced, || self.get_mut().0.as_mut().poll(cx))
    }
}

#[test]
fn waiting_works_on_every_runtime() {
    common::guarded(|| {
        let pool = Pool::builder().threads(1).build();
        let run = || forced(until_helped(&pool, || {}));
        multi(2).block_on(run());
        single().block_on(run());
        LocalSet::new().block_on(&single(), run());
        LocalSet::new().block_on(&multi(1), run());
        let runtime = multi(1);
        LocalSet::new().block_on(&runtime, async {
            let pool = Pool::builder().threads(1).build();
            tokio::task::spawn_local(async move { forced(until_helped(&pool, || {})).await })
                .await
                .unwrap();
        });
        runtime.shutdown_background();
    });
}
