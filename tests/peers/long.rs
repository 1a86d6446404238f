//! Very long pipeline types: 64 stages of each kind compile and run, also inside a spawned task.

use selvedge::{block_on, prelude::*};

macro_rules! eight {
    ($stream:expr, $($stage:tt)*) => {
        $stream.$($stage)*.$($stage)*.$($stage)*.$($stage)*.$($stage)*.$($stage)*.$($stage)*.$($stage)*
    };
}

macro_rules! sixty_four {
    ($stream:expr, $($stage:tt)*) => {{
        let stream = eight!($stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        let stream = eight!(stream, $($stage)*);
        eight!(stream, $($stage)*)
    }};
}

#[test]
fn pipeline_of_64_synchronous_stages_runs() {
    super::guarded(|| {
        let all: Vec<u32> =
            block_on(sixty_four!((0..1000u32).into_par(), map(|n| n + 1)).collect());
        assert!(all.into_iter().eq(64..1064));
        let kept = sixty_four!((0..1000u32).into_par(), filter(|n| n % 2 == 0));
        assert_eq!(block_on(kept.count()), 500);
    });
}

#[test]
fn pipeline_of_64_stages_runs_in_a_spawned_task() {
    super::guarded(|| {
        let one = 1;
        let sum = block_on(scope(async |s| {
            let sum = s.spawn(async {
                let all = sixty_four!((0..100u32).into_par(), map(|n| n + one));
                all.sum::<u32>().await
            });
            sum.await
        }));
        assert_eq!(sum, 4950 + 6400);
    });
}

#[test]
fn pipeline_of_16_asynchronous_stages_runs() {
    super::guarded(|| {
        let stream = eight!((0..100u32).into_par(), then(async |n| n + 1));
        let stream = eight!(stream, then(async |n| n + 1));
        let all: Vec<u32> = block_on(stream.collect());
        assert!(all.into_iter().eq(16..116));
    });
}
