//! `CONFORMANCE.md`, cancellation: each test carries the number of its case, and runs on every executor, in every
//! mode of lending, with and without helpers. Limits in time are in `limits_*.rs`, I/O in `cancel_io`, `select!`
//! beside its code. CT-028, the supervisor's part of CT-026 and CT-060 wait for what they are about.
#![cfg(feature = "testing")]

mod causes;
mod classify;
mod errors;
mod grace;
mod one_child;
mod tree;

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::task::Poll;
use std::time::Duration;

use selvedge::cancel::cancelled;
use selvedge::testing::lending::{Lending, with};
use selvedge::{Cancelled, Cause, FutureCancelExt, Pool, block_on};
use selvedge_scope::ScopeErrors;
use tokio::runtime::Builder;

pub(crate) const MODES: [Lending; 3] = [Lending::Never, Lending::Adaptive, Lending::Forced];

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Every poll lends in this way, whatever thread the executor polls on.
fn in_mode(mode: Lending, mut job: Job) -> Job {
    Box::pin(poll_fn(move |cx| with(mode, || job.as_mut().poll(cx))))
}

/// Runs `test` on a thread of its own, and fails if it does not end: a hang must not stop the others.
pub(crate) fn guarded(test: impl FnOnce() + Send + 'static) {
    let (send, receive) = channel();
    let thread = std::thread::spawn(move || {
        test();
        let _ = send.send(());
    });
    match receive.recv_timeout(Duration::from_secs(120)) {
        Err(RecvTimeoutError::Timeout) => panic!("hangs"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            if let Err(payload) = thread.join() {
                std::panic::resume_unwind(payload);
            }
        }
    }
}

/// Runs a case on each executor, in each mode, with no helper and with two.
pub(crate) fn everywhere<F>(case: fn(Pool) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    guarded(move || {
        let many = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let one = Builder::new_current_thread().enable_all().build().unwrap();
        for threads in [0, 2] {
            let pool = Pool::builder().threads(threads).build();
            for mode in MODES {
                let job = |on: &str| {
                    // What was printed last says where a case failed.
                    println!("{on}, {mode:?}, {threads} helpers");
                    in_mode(mode, Box::pin(case(pool.clone())))
                };
                block_on(job("ours"));
                futures::executor::block_on(job("futures"));
                smol::block_on(job("smol"));
                one.block_on(job("one thread of tokio"));
                let spawned = job("many threads of tokio");
                many.block_on(async { tokio::spawn(spawned).await })
                    .unwrap();
            }
        }
    });
}

/// Lets others run that often.
pub(crate) async fn yields(times: usize) {
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

/// Lets others run until it is so, cancelled or not.
pub(crate) async fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        yields(1).await;
    }
}

/// Waits for a cancellation, and fails with it.
pub(crate) async fn rest<T>() -> Result<T, Cancelled> {
    std::future::pending::<T>().or_cancel().await
}

/// Waits until the task that polls it is to stop, and says why.
pub(crate) async fn told() -> Cause {
    cancelled().await
}

/// The error of a program.
#[derive(Debug)]
pub(crate) enum AppError {
    Real(&'static str),
    Cancelled(Cancelled),
    Inner(Box<ScopeErrors<AppError>>),
}

impl From<Cancelled> for AppError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl AppError {
    pub(crate) fn real(&self) -> &'static str {
        match self {
            Self::Real(text) => text,
            Self::Cancelled(_) => "cancelled",
            Self::Inner(_) => "inner",
        }
    }
}

/// The failures of a scope by their texts, in order.
pub(crate) fn texts(errors: &ScopeErrors<AppError>) -> Vec<&'static str> {
    errors.iter().map(|error| error.error.real()).collect()
}
