//! What ours is measured by: tokio, and the `futures` crate where tokio has no such function.

use std::future::Future;
use std::hint::black_box;

use futures::stream::{self, StreamExt};

use super::{BIG, LONG, Room, Way, big, on_stack};

fn tokio() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
}

/// What tokio does with a future of this size, on a stack of that size.
fn tokio_spawn<const N: usize>(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async { tokio::spawn(big::<N>()).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

fn tokio_block_on(stack: usize) {
    on_stack(stack, || assert_eq!(tokio().block_on(big::<BIG>()), Ok(1)));
}

fn tokio_timeout(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async { tokio::time::timeout(LONG, big::<BIG>()).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

/// A spawn that might give the future back, with nothing of ours in it.
fn tokio_try_spawn(stack: usize) {
    type Spawned<F> = tokio::task::JoinHandle<<F as Future>::Output>;
    fn try_spawn<F>(future: F, closed: bool) -> Result<Spawned<F>, F>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if closed {
            Err(future)
        } else {
            Ok(tokio::spawn(future))
        }
    }
    on_stack(stack, || {
        let spawned = async {
            try_spawn(big::<BIG>(), black_box(false))
                .ok()
                .unwrap()
                .await
        };
        assert_eq!(tokio().block_on(spawned).unwrap(), Ok(1));
    });
}

/// A closure that is a task's one poll.
fn tokio_spawn_fn(stack: usize) {
    fn spawn_fn<T: Send + 'static>(
        f: impl FnOnce() -> T + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        tokio::spawn(async move { f() })
    }
    on_stack(stack, || {
        let spawned = async {
            let room = Room::new();
            spawn_fn(move || room.look()).await
        };
        assert_eq!(tokio().block_on(spawned).unwrap(), Ok(1));
    });
}

fn futures_join(stack: usize) {
    on_stack(stack, || {
        let both = futures::future::join(big::<BIG>(), big::<BIG>());
        assert_eq!(tokio().block_on(both), (Ok(1), Ok(1)));
    });
}

fn futures_join_all_of_an_array(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::join_all([big::<BIG>(), big::<BIG>()]);
        assert_eq!(tokio().block_on(all), [Ok(1), Ok(1)]);
    });
}

fn futures_join_all_of_a_range(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::join_all((0..2).map(|_| big::<BIG>()));
        assert_eq!(tokio().block_on(all), [Ok(1), Ok(1)]);
    });
}

fn futures_buffered(stack: usize) {
    on_stack(stack, || {
        let items = stream::iter(0..2).map(|_| async { big::<BIG>().await.unwrap() });
        let all = items.buffer_unordered(2).collect::<Vec<_>>();
        assert_eq!(tokio().block_on(all), [1, 1]);
    });
}

fn futures_join_all_of_some(stack: usize) {
    on_stack(stack, || {
        let some = (0..4).filter(|i| i % 2 == 0).map(|_| big::<BIG>());
        assert_eq!(
            tokio().block_on(futures::future::join_all(some)),
            [Ok(1), Ok(1)]
        );
    });
}

fn futures_try_join_all_of_a_range(stack: usize) {
    on_stack(stack, || {
        let all = futures::future::try_join_all((0..2).map(|_| big::<BIG>()));
        assert_eq!(tokio().block_on(all), Ok(vec![1, 1]));
    });
}

fn tokio_spawn_wrapped(stack: usize) {
    on_stack(stack, || {
        let got = tokio()
            .block_on(async { tokio::spawn(tokio::task::unconstrained(big::<BIG>())).await });
        assert_eq!(got.unwrap(), Ok(1));
    });
}

fn tokio_timeouts(stack: usize) {
    on_stack(stack, || {
        let got = tokio().block_on(async {
            let inner = tokio::time::timeout(LONG, big::<BIG>());
            tokio::time::timeout(LONG, tokio::time::timeout(LONG, inner)).await
        });
        assert_eq!(got.unwrap().unwrap().unwrap(), Ok(1));
    });
}

pub(crate) const PEERS: [Way; 13] = [
    ("tokio's spawn", tokio_spawn::<BIG>),
    ("tokio's block_on", tokio_block_on),
    ("tokio's timeout", tokio_timeout),
    ("tokio's spawn, as try_spawn", tokio_try_spawn),
    ("tokio's spawn, as spawn_fn", tokio_spawn_fn),
    ("join of futures", futures_join),
    (
        "join_all of futures, of an array",
        futures_join_all_of_an_array,
    ),
    (
        "join_all of futures, of a range",
        futures_join_all_of_a_range,
    ),
    ("buffer_unordered of futures", futures_buffered),
    (
        "join_all of futures, of what does not know its length",
        futures_join_all_of_some,
    ),
    (
        "try_join_all of futures, of a range",
        futures_try_join_all_of_a_range,
    ),
    ("tokio's spawn of a wrapped one", tokio_spawn_wrapped),
    ("tokio's timeout, three of them", tokio_timeouts),
];
pub(crate) const SPAWN: usize = 0;
pub(crate) const BLOCK_ON: usize = 1;
/// Of what takes a future and is one, or gives it back in its answer.
pub(crate) const COMBINE: usize = 2;
pub(crate) const TRY_SPAWN: usize = 3;
pub(crate) const SPAWN_FN: usize = 4;
// Tokio has no such functions.
pub(crate) const JOIN: usize = 5;
pub(crate) const ARRAY: usize = 6;
pub(crate) const RANGE: usize = 7;
pub(crate) const STREAM: usize = 8;
pub(crate) const SOME: usize = 9;
pub(crate) const TRY_RANGE: usize = 10;
pub(crate) const WRAPPED: usize = 11;
/// What takes a future and is one, three times: each knob takes the scope, and gives it back.
pub(crate) const COMBINE_MORE: usize = 12;
