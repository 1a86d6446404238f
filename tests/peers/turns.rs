//! Members that only yield take their turns in rounds, where one thread polls them all.

use std::future::poll_fn;
use std::sync::Mutex;
use std::task::Poll;

use selvedge::testing::lending::{Lending, with};
use selvedge::{Pool, block_on, join, join_all, prelude::*};

const TURNS: usize = 1000;

/// Who was polled, one after another.
#[derive(Default)]
struct Log(Mutex<Vec<usize>>);

impl Log {
    /// A member that writes itself down at each poll.
    fn member(&self, who: usize) -> impl Future<Output = ()> + Send {
        let mut left = TURNS;
        poll_fn(move |cx| {
            self.0.lock().unwrap().push(who);
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }

    /// Between two turns of a member lie at most so many of all others.
    fn check(self, members: usize, most: usize, what: &str) -> Result<(), String> {
        let log = self.0.into_inner().unwrap();
        assert_eq!(
            log.len(),
            members * (TURNS + 1),
            "{what}: all went to their end"
        );
        let mut worst = 0;
        let mut last = vec![0; members];
        for (at, who) in log.iter().enumerate() {
            worst = worst.max(at - last[*who]);
            last[*who] = at;
        }
        if worst > most {
            return Err(format!(
                "{what}: {worst} turns of others between two of one"
            ));
        }
        Ok(())
    }
}

#[test]
fn members_that_only_yield_take_turns_in_rounds() {
    super::guarded(|| {
        let pool = Pool::builder().threads(2).build();
        let mut failures = Vec::new();
        with(Lending::Never, || {
            for members in [2, 3, 8] {
                let log = Log::default();
                block_on(
                    scope(async |s| {
                        for who in 0..members {
                            drop(s.spawn(log.member(who)));
                        }
                    })
                    .on(&pool),
                );
                failures.extend(log.check(members, 2 * members, "children").err());

                let log = Log::default();
                let all = (0..members).map(|who| log.member(who));
                block_on(join_all(all).on(&pool));
                failures.extend(log.check(members, 2 * members, "join_all").err());

                let log = Log::default();
                let all = (0..members).into_par().on(&pool).concurrency(members);
                block_on(all.for_each(|who| log.member(who)));
                // A lane polls its next item a few times more before it lets others have a turn.
                failures.extend(log.check(members, 2 * members, "items of a pipeline").err());
            }
            let log = Log::default();
            block_on(join((log.member(0), log.member(1), log.member(2))));
            failures.extend(log.check(3, 6, "join").err());

            // The body is a member like the children.
            let log = Log::default();
            block_on(
                scope(async |s| {
                    drop(s.spawn(log.member(0)));
                    drop(s.spawn(log.member(1)));
                    log.member(2).await;
                })
                .on(&pool),
            );
            failures.extend(log.check(3, 6, "body and children").err());
        });
        assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    });
}
