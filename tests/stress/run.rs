//! Runs the tree of one seed under its runtime, and sees that nothing of it is left. Not which seeds are run.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use selvedge::testing::VirtualClock;
use selvedge::{Pool, block_on};

use crate::agents;
use crate::handles::{Job, Payload, Settings};
use crate::members::Lent;
use crate::plan::{Plan, Runner};
use crate::rng::Rng;
use crate::scopes::run_scope;
use crate::values::{Nasty, drop_payload, nasty, quietly};
use crate::world::WORLD;

/// The pools of the process: 0, 1, 2 and 4 threads.
fn pools() -> &'static [Pool; 4] {
    static POOLS: OnceLock<[Pool; 4]> = OnceLock::new();
    POOLS.get_or_init(|| [0, 1, 2, 4].map(|threads| Pool::builder().threads(threads).build()))
}

/// A rayon pool whose handles can be counted.
fn rayon() -> &'static Arc<rayon_core::ThreadPool> {
    static RAYON: OnceLock<Arc<rayon_core::ThreadPool>> = OnceLock::new();
    RAYON.get_or_init(|| {
        let builder = rayon_core::ThreadPoolBuilder::new()
            .num_threads(2)
            .stack_size(8 << 20);
        Arc::new(builder.build().expect("threads start"))
    })
}

fn tokio_multi() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts")
    })
}

fn tokio_current() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime starts")
    })
}

/// Handles to the rayon pool that forgotten scopes keep for ever.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Runs a seed. What it finds is in [`WORLD`].
pub(crate) fn run(plan: &Arc<Plan>, turns: [u64; 2]) {
    WORLD.begin();
    let [none, one, two, four] = pools().clone();
    let own = match plan.rayon {
        true => Pool::from_rayon(rayon().clone()),
        false => two.clone(),
    };
    let settings = Settings {
        mode: plan.lending,
        pools: [none, one, two, four, own],
        turns,
    };
    let settings = Arc::new(settings);
    let clock = VirtualClock::new();
    let timer = clock.timer();
    let before = Arc::strong_count(&timer);
    quietly(|| {
        if let Some(payload) = start(plan, &settings, &clock) {
            drop_payload(payload);
        }
    });
    agents::rest();
    // Helpers and tasks of tokio may be about to let go of it.
    drop(settings);
    WORLD.settle(plan.seed, || {
        // What a forgotten scope keeps is counted a moment too early, perhaps.
        let handles = (Arc::strong_count(rayon()) - 1).saturating_sub(LOST.load(SeqCst));
        let timers = Arc::strong_count(&timer) - before;
        let kept = handles + timers > 0;
        kept.then(|| {
            format!("(a core is kept: {handles} handles to the pool, {timers} to the timer)")
        })
    });
    if WORLD.has_forgotten() {
        let handles = Arc::strong_count(rayon()) - 1;
        LOST.store(handles, SeqCst);
    }
}

/// The root, which owns all that it borrows.
fn root(
    plan: &Arc<Plan>,
    settings: &Arc<Settings>,
) -> impl Future<Output = Option<Payload>> + Send + use<> {
    let (plan, settings) = (plan.clone(), settings.clone());
    let mode = plan.lending;
    let future = async move {
        let knobs = &plan.root.knobs;
        let level = settings.level(knobs.inline, knobs.pool);
        run_scope(&level, &plan.root, &settings, None).await
    };
    Lent { future, mode }
}

fn start(plan: &Arc<Plan>, settings: &Arc<Settings>, clock: &VirtualClock) -> Option<Payload> {
    let root = root(plan, settings);
    match plan.runner {
        Runner::BlockOn => block_on(root),
        Runner::Virtual => clock.block_on(root),
        Runner::Futures => futures::executor::block_on(root),
        Runner::Smol => smol::block_on(root),
        Runner::SmolTask => smol::block_on(smol::spawn(root)),
        Runner::TokioCurrent => tokio_current().block_on(root),
        Runner::TokioMulti => tokio_multi().block_on(root),
        Runner::TokioMultiTask => {
            let task = tokio_multi().spawn(root);
            tokio_multi()
                .block_on(task)
                .unwrap_or_else(|error| Some(error.into_panic()))
        }
        Runner::ByHand => by_hand(root, plan.seed),
        Runner::Threads => with_thread(plan, settings),
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls with ever new wakers, some times only; then the root is dropped, moved to another thread first or not.
fn by_hand(root: impl Future<Output = Option<Payload>> + Send, seed: u64) -> Option<Payload> {
    let mut rng = Rng::new(seed ^ 0x4a);
    let real = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut root = Box::pin(root);
    let polls = rng.pick(&[1, 3, 10, 1000]);
    for _ in 0..polls {
        let kinds = [
            Nasty::Tame,
            Nasty::PanicsWhenWoken,
            Nasty::WakesOthers,
            Nasty::TakesTheBagWhenDropped,
        ];
        let waker = nasty(rng.pick(&kinds), &real, seed);
        let polled = root.as_mut().poll(&mut Context::from_waker(&waker));
        if let Poll::Ready(payload) = polled {
            return payload;
        }
        drop(waker);
        std::thread::park_timeout(Duration::from_millis(1));
    }
    if rng.percent(50) {
        std::thread::scope(|threads| {
            threads.spawn(|| quietly(|| drop(root)));
        });
    }
    None
}

/// Runs the root with a thread beside it that has its handle.
fn with_thread(plan: &Plan, settings: &Settings) -> Option<Payload> {
    let knobs = &plan.root.knobs;
    let level = settings.level(knobs.inline, knobs.pool);
    std::thread::scope(|threads| {
        let (send, receive) = channel::<Job<'_>>();
        threads.spawn(move || {
            while let Ok(Some(job)) = receive.recv() {
                quietly(job);
            }
        });
        let future = run_scope(&level, &plan.root, settings, Some(send.clone()));
        let mut payload = None;
        quietly(|| {
            payload = block_on(Lent {
                future,
                mode: plan.lending,
            })
        });
        let _ = send.send(None);
        payload
    })
}
