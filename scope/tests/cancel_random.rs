//! Random trees of scopes, children, batches and limits that anybody cancels at any time: in bodies, by handles, by
//! threads that got hold of a token, by deadlines, by dropping. Every run ends, and drops what it made. A fixed
//! number of seeds; the one that fails is printed, and runs alone with `SELVEDGE_SEED`.

mod common;

use std::error::Error;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use common::{Count, MODES, burn, guarded_for, pool, yields};
use futures::stream::{FuturesUnordered, StreamExt};
use selvedge_cancel::{
    CancelToken, FutureCancelExt, Instant, ambient, cancelled, check, current, select_safe,
    stopping,
};
use selvedge_scope::lending::with;
use selvedge_scope::time::sleep;
use selvedge_scope::{
    Pool, TryScope, block_on, join_all, scope, shield, timeout, try_join_all, try_scope,
};

const SEEDS: u64 = 400;
const HOUR: Duration = Duration::from_secs(3600);

type Failure = Box<dyn Error + Send + Sync>;
type Tree<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Numbers that look random: Weyl's sequence, mixed by multiplications.
#[derive(Clone, Copy)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 31)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn micros(&mut self, end: u64) -> Duration {
        Duration::from_micros(self.below(end))
    }
}

/// What a run shares.
#[derive(Clone, Copy)]
struct World<'a> {
    tokens: &'a Mutex<Vec<CancelToken>>,
    count: &'a Arc<Count>,
    pool: &'a Pool,
}

impl World<'_> {
    fn give(&self, token: CancelToken) {
        self.tokens.lock().unwrap().push(token);
    }

    fn any(&self, dice: &mut Dice) -> Option<CancelToken> {
        let tokens = self.tokens.lock().unwrap();
        let index = usize::try_from(dice.next()).unwrap() % tokens.len().max(1);
        tokens.get(index).cloned()
    }
}

/// Something that rests, computes or fails by itself.
async fn leaf(mut dice: Dice, world: World<'_>) -> Result<(), Failure> {
    let _one = world.count.one();
    if dice.one_in(3) {
        world.give(current());
    }
    match dice.below(11) {
        0 => sleep(HOUR).await?,
        1 => pending().or_cancel().await?,
        2 => drop(cancelled().await),
        3 => {
            for _ in 0..dice.below(20) {
                yields(1).await;
                check()?;
            }
        }
        4 => timeout(Duration::from_micros(300), sleep(HOUR)).await??,
        5 => shield(Duration::from_micros(500), sleep(HOUR)).await?,
        6 => {
            let sleeps = [HOUR, Duration::from_micros(100)].map(sleep);
            let mut sleeps: FuturesUnordered<_> = sleeps.into_iter().collect();
            while let Some(slept) = sleeps.next().await {
                slept?;
            }
        }
        7 => {
            let lengths = (0..dice.below(40)).map(|index| match index % 2 {
                0 => Duration::from_micros(index),
                _ => HOUR,
            });
            for slept in join_all(lengths.map(sleep)).await {
                slept?;
            }
        }
        8 => {
            let members = (0..dice.below(20)).map(|index| async move {
                if index == 7 {
                    return Err(Failure::from("seven"));
                }
                sleep(HOUR).await.map_err(Failure::from)
            });
            try_join_all(members).await?;
        }
        9 => stopping().await,
        _ => {
            burn(dice.micros(300));
            if dice.one_in(4) {
                return Err("a failure of its own".into());
            }
        }
    }
    Ok(())
}

/// Spawns children, some of which spawn more and wait for them, or for their cancellation.
async fn spawns<'a>(s: &TryScope<'a, Failure>, mut dice: Dice, depth: u32, world: World<'a>) {
    let many = match dice.one_in(4) {
        true => dice.below(30),
        false => dice.below(6),
    };
    for _ in 0..many {
        let deeper = many < 6 && dice.one_in(2);
        let depth = if deeper { depth - 1 } else { 0 };
        let (below, mut own) = (tree(Dice(dice.next()), depth, world), Dice(dice.next()));
        match dice.below(6) {
            0 => {
                let inside = s.clone();
                s.spawn(async move {
                    let child = inside.spawn(below);
                    yields(1).await;
                    if own.one_in(5) {
                        child.cancel();
                    }
                    if own.one_in(7) {
                        child.cancel_and_wait().await;
                    }
                    for _ in 0..own.below(9) {
                        inside.spawn(leaf(Dice(own.next()), world));
                    }
                    if own.one_in(3) {
                        child.await?;
                    }
                    Ok(())
                });
            }
            1 => {
                let child = s.spawn_select_safe(select_safe(below));
                if own.one_in(2) {
                    child.cancel();
                }
            }
            _ => {
                let child = s.spawn(below);
                if own.one_in(4) {
                    child.cancel();
                }
            }
        }
        if dice.one_in(30) {
            s.cancel();
        }
    }
}

/// A body: spawns under some limit, and then ends, cancels, stops or waits.
async fn body<'a>(
    s: TryScope<'a, Failure>,
    mut dice: Dice,
    depth: u32,
    world: World<'a>,
) -> Result<(), Failure> {
    const SOON: Duration = Duration::from_millis(1);
    if dice.one_in(2) {
        world.give(s.token());
    }
    let spawning = spawns(&s, Dice(dice.next()), depth, world);
    match dice.below(4) {
        0 => shield(SOON, spawning).await,
        1 => timeout(SOON, spawning).await?,
        _ => spawning.await,
    }
    match dice.below(6) {
        0 => s.cancel(),
        1 => {
            yields(1).await;
            s.cancel();
            for _ in 0..dice.below(20) {
                s.spawn(leaf(Dice(dice.next()), world));
            }
        }
        2 => {
            s.stop();
            yields(1).await;
            s.set_deadline(Instant::now() + dice.micros(300));
        }
        3 => {
            let child = s.spawn(leaf(Dice(dice.next()), world));
            child.cancel_and_wait().await;
            child.await?;
        }
        _ => leaf(dice, world).await?,
    }
    Ok(())
}

/// A leaf, or a scope with settings of any kind, which may be dropped midway.
fn tree(mut dice: Dice, depth: u32, world: World<'_>) -> Tree<'_> {
    Box::pin(async move {
        let _one = world.count.one();
        if depth == 0 {
            return leaf(dice, world).await;
        }
        let inside = Dice(dice.next());
        let mut waiting = try_scope(async move |s| body(s, inside, depth, world).await);
        waiting = waiting.on(world.pool);
        if dice.one_in(3) {
            waiting = waiting.timeout(dice.micros(2000));
        }
        if let Some(token) = world.any(&mut dice).filter(|_| dice.one_in(4)) {
            waiting = waiting.token(&token);
        }
        match dice.below(5) {
            0 => {
                let stopped = waiting.stop_within(dice.micros(300));
                stopped.grace(dice.micros(600)).await
            }
            1 => {
                let mut left = dice.below(3);
                let mut waiting = pin!(select_safe(waiting));
                poll_fn(|cx| {
                    if left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    left -= 1;
                    cx.waker().wake_by_ref();
                    waiting.as_mut().poll(cx)
                })
                .await
            }
            2 => {
                let all = waiting.all_errors().await;
                all.map_err(|errors| errors.into_primary())
            }
            3 => scope(async |s| s.spawn(waiting).await).on(world.pool).await,
            _ => waiting.await,
        }
    })
}

/// Another thread asks any token for anything, and at last the whole run for its end.
fn pesters(mut dice: Dice, world: World<'_>, root: &CancelToken, done: &AtomicBool) {
    let mut times = 0;
    while !done.load(Ordering::SeqCst) {
        match (world.any(&mut dice), dice.below(3)) {
            (Some(token), 0) => token.stop(),
            (Some(token), 1) => token.cancel(),
            (Some(token), _) => token.abort(),
            (None, _) => {}
        }
        times += 1;
        if dice.one_in(20) || times > 100 {
            root.cancel();
        }
        std::thread::sleep(dice.micros(200));
    }
}

fn run(seed: u64) -> usize {
    let mut dice = Dice(seed);
    let mode = MODES[usize::try_from(dice.below(3)).unwrap()];
    let pool = pool(usize::try_from(dice.below(4)).unwrap());
    let (tokens, count) = (Mutex::new(Vec::new()), Count::new());
    let (root, done) = (CancelToken::new(), AtomicBool::new(false));
    let world = World {
        tokens: &tokens,
        count: &count,
        pool: &pool,
    };
    std::thread::scope(|threads| {
        let (strange, root, done) = (Dice(dice.next()), &root, &done);
        threads.spawn(move || pesters(strange, world, root, done));
        let before = ambient::replace(Some(root.clone()));
        // Whatever comes of it, it is over.
        let _ = with(mode, || block_on(tree(Dice(dice.next()), 3, world)));
        done.store(true, Ordering::SeqCst);
        drop(ambient::replace(before));
    });
    count.assert_settled("tree");
    count.made()
}

/// Hangs and uses of freed memory were found like this.
#[test]
fn random_trees_that_anybody_cancels_end_and_drop_what_they_made() {
    let only = std::env::var("SELVEDGE_SEED").ok();
    let seeds = match only.and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..SEEDS,
    };
    let made = Arc::new(AtomicUsize::new(0));
    for seed in seeds {
        let made = Arc::clone(&made);
        let ended = std::panic::catch_unwind(|| {
            guarded_for(Duration::from_secs(20), move || {
                made.fetch_add(run(seed), Ordering::SeqCst);
            });
        });
        if let Err(payload) = ended {
            panic!("SELVEDGE_SEED={seed}: {}", common::message(&*payload));
        }
    }
    let made = made.load(Ordering::SeqCst);
    println!("{made} futures in all");
    assert!(made > 0);
}
