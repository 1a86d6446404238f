//! Nobody who is ready waits for more than a stated number of others' polls: over everything that runs members
//! together, kinds of members, modes of lending, and runtimes. Polls are counted, nothing is timed.
#![cfg(feature = "testing")]

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use selvedge::testing::lending::{Lending, with};
use selvedge::{block_on, join, join_all, prelude::*, scope, try_join_all};

/// Members of each run; a scope's body is one of them.
const MEMBERS: usize = 6;
const ROUNDS: usize = 30;

/// What a member waits for at most, inline: everybody else once, and as many again that were woken elsewhere or began
/// meanwhile, and a stretch of first polls.
const INLINE: usize = 2 * MEMBERS + 32;

/// The same where helpers take part, nine times in ten (the system puts threads aside): a packet of 32 for each of
/// the two threads besides.
const LENT: usize = INLINE + 2 * 32;

/// Beside a synchronous stream, whose own window lasts for a budget of 5 ms: so many items besides, nine times in ten. (If
/// the system puts the thread aside in a window of the members, that one is over before all have had a turn.)
const BESIDE: usize = 5000 / 20;

/// What a poll of a member costs.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Cheap,
    Heavy,
    /// Every second one is heavy.
    Mixed,
}

impl Kind {
    fn cost(self, id: usize) -> Duration {
        match self {
            Self::Heavy => Duration::from_micros(60),
            Self::Mixed if id % 2 == 0 => Duration::from_micros(60),
            Self::Mixed | Self::Cheap => Duration::ZERO,
        }
    }
}

/// Counts polls, and those that others had while a member was ready.
struct Board {
    polls: AtomicUsize,
    ready_at: [AtomicUsize; MEMBERS],
    gaps: Mutex<Vec<usize>>,
}

impl Board {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            polls: AtomicUsize::new(0),
            ready_at: [const { AtomicUsize::new(0) }; MEMBERS],
            gaps: Mutex::default(),
        })
    }

    fn poll(&self, id: usize, cost: Duration) {
        let before = self.ready_at[id].load(Ordering::SeqCst);
        let gap = self.polls.fetch_add(1, Ordering::SeqCst) - before;
        self.gaps.lock().unwrap().push(gap);
        let from = Instant::now();
        while from.elapsed() < cost {
            std::hint::spin_loop();
        }
        self.ready_at[id].store(self.polls.load(Ordering::SeqCst), Ordering::SeqCst);
    }
}

/// A member that is always ready. With another `K` it is of another type, whose cost nobody knows yet.
struct Member<const K: usize> {
    board: Arc<Board>,
    id: usize,
    cost: Duration,
    left: usize,
}

impl<const K: usize> Future for Member<K> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (id, cost) = (self.id, self.cost);
        self.board.poll(id, cost);
        if self.left == 0 {
            return Poll::Ready(());
        }
        self.left -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn member<const K: usize>(board: &Arc<Board>, kind: Kind, id: usize) -> Member<K> {
    Member {
        board: Arc::clone(board),
        id,
        cost: kind.cost(id),
        left: ROUNDS,
    }
}

/// What runs members together.
#[derive(Clone, Copy, Debug)]
enum Way {
    Scope,
    Join,
    JoinAll,
    TryJoinAll,
    /// Items of a parallel stream that wait.
    Lanes,
    /// A synchronous parallel stream, whose lanes compute, beside ordinary members.
    Beside,
}

const WAYS: [Way; 6] = [
    Way::Scope,
    Way::Join,
    Way::JoinAll,
    Way::TryJoinAll,
    Way::Lanes,
    Way::Beside,
];

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

fn run<const K: usize>(way: Way, kind: Kind, board: Arc<Board>) -> Run {
    let all = {
        let board = Arc::clone(&board);
        move || (0..MEMBERS).map(move |id| member::<K>(&board, kind, id))
    };
    match way {
        Way::Scope => Box::pin(scope(async move |s| {
            for id in 1..MEMBERS {
                s.spawn(member::<K>(&board, kind, id));
            }
            member::<K>(&board, kind, 0).await;
        })),
        Way::Join => Box::pin(async move {
            let m = |id| member::<K>(&board, kind, id);
            join((m(0), m(1), m(2), m(3), m(4), m(5))).await;
        }),
        Way::JoinAll => Box::pin(async move {
            join_all(all()).await;
        }),
        Way::TryJoinAll => Box::pin(async move {
            let fallible = all().map(|member| async move {
                member.await;
                Ok::<_, ()>(())
            });
            try_join_all(fallible).await.unwrap();
        }),
        Way::Lanes => Box::pin(async move {
            let members = (0..MEMBERS).into_par().concurrency(MEMBERS);
            members
                .then(|id| member::<K>(&board, kind, id))
                .for_each(|()| ())
                .await;
        }),
        Way::Beside => Box::pin(async move {
            let items = Arc::clone(&board);
            let lanes = (0..2000_u32).into_par().map(move |_| {
                // Its items count as others' polls: a turn of a lane is some tens of them.
                items.polls.fetch_add(1, Ordering::SeqCst);
                let from = Instant::now();
                while from.elapsed() < Duration::from_micros(20) {
                    std::hint::spin_loop();
                }
            });
            let m = |id| member::<K>(&board, kind, id);
            let members = join((m(0), m(1), m(2), m(3), m(4), m(5)));
            join((lanes.for_each(|()| ()), members)).await;
        }),
    }
}

/// Where the whole is polled.
#[derive(Clone, Copy, Debug)]
enum Runtime {
    BlockOn,
    TokioCurrent,
    TokioCurrentTask,
    TokioMulti,
    TokioMultiTask,
    Smol,
}

const RUNTIMES: [Runtime; 6] = [
    Runtime::BlockOn,
    Runtime::TokioCurrent,
    Runtime::TokioCurrentTask,
    Runtime::TokioMulti,
    Runtime::TokioMultiTask,
    Runtime::Smol,
];

/// Each poll of the whole happens in this mode, whichever thread it is on.
fn in_mode(mode: Lending, mut run: Run) -> Run {
    Box::pin(poll_fn(move |cx| with(mode, || run.as_mut().poll(cx))))
}

fn drive(runtime: Runtime, whole: Run) {
    let tokio = |mut builder: tokio::runtime::Builder| builder.enable_all().build().unwrap();
    let current = || tokio(tokio::runtime::Builder::new_current_thread());
    let multi = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2);
        tokio(builder)
    };
    match runtime {
        Runtime::BlockOn => block_on(whole),
        Runtime::TokioCurrent => current().block_on(whole),
        Runtime::TokioCurrentTask => {
            current().block_on(async { tokio::spawn(whole).await.unwrap() })
        }
        Runtime::TokioMulti => multi().block_on(whole),
        Runtime::TokioMultiTask => multi().block_on(async { tokio::spawn(whole).await.unwrap() }),
        Runtime::Smol => smol::block_on(whole),
    }
}

/// One row of the table.
fn check<const K: usize>(way: Way, kind: Kind, mode: Lending, runtime: Runtime) {
    let board = Board::new();
    drive(
        runtime,
        in_mode(mode, run::<K>(way, kind, Arc::clone(&board))),
    );
    let mut gaps = std::mem::take(&mut *board.gaps.lock().unwrap());
    assert_eq!(
        gaps.len(),
        MEMBERS * (ROUNDS + 1),
        "every member was polled to its end"
    );
    gaps.sort_unstable();
    let nine_in_ten = gaps[gaps.len() * 9 / 10];
    let (most, bound) = match (mode, way) {
        (Lending::Never, Way::Beside) => (nine_in_ten, INLINE + BESIDE),
        (Lending::Never, _) => (gaps[gaps.len() - 1], INLINE),
        (_, Way::Beside) => (nine_in_ten, LENT + BESIDE),
        _ => (nine_in_ten, LENT),
    };
    assert!(
        most <= bound,
        "{way:?} of {kind:?} members, {mode:?}, {runtime:?}: {most} polls of others between two turns"
    );
}

#[test]
fn whoever_is_ready_waits_for_a_bounded_number_of_others() {
    let mut rows = 0;
    for way in WAYS {
        for kind in [Kind::Cheap, Kind::Heavy, Kind::Mixed] {
            for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
                for runtime in RUNTIMES {
                    check::<0>(way, kind, mode, runtime);
                    rows += 1;
                }
            }
        }
    }
    assert_eq!(rows, 6 * 3 * 3 * 6);
}

/// Rows whose members are of a kind that nobody has polled before.
macro_rules! unknown {
    ($($k:literal)+) => { [$(check::<$k>),+] };
}

#[test]
fn whoever_is_ready_has_turns_while_nothing_is_known_of_the_kind() {
    let checks = unknown!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36);
    let mut next = checks.into_iter();
    for way in WAYS {
        for kind in [Kind::Heavy, Kind::Mixed] {
            for mode in [Lending::Never, Lending::Adaptive, Lending::Forced] {
                let check = next.next().expect("a kind for each row");
                check(way, kind, mode, Runtime::BlockOn);
            }
        }
    }
    assert!(next.next().is_none());
}
