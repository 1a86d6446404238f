//! Threads of the test program that wake, cancel and drop what belongs to the trees. They live as long as the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};
use std::task::Waker;

use crate::rng::Rng;
use crate::values::quietly;
use crate::world::{WORLD, lock};

type Job = Box<dyn FnOnce() + Send>;

fn agents() -> &'static [Sender<Job>; 2] {
    static AGENTS: OnceLock<[Sender<Job>; 2]> = OnceLock::new();
    AGENTS.get_or_init(|| {
        [0, 1].map(|index| {
            let (send, receive) = channel::<Job>();
            let run = move || receive.into_iter().for_each(quietly);
            let thread = std::thread::Builder::new().name(format!("agent-{index}"));
            thread.spawn(run).expect("a thread starts");
            send
        })
    })
}

/// Has one of them do this soon.
pub(crate) fn send(job: impl FnOnce() + Send + 'static) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let next = NEXT.fetch_add(1, Relaxed) % 2;
    agents()[next]
        .send(Box::new(job))
        .expect("agents do not end");
}

/// Waits until all that was sent before is done.
pub(crate) fn rest() {
    for agent in agents() {
        let (tell, told) = channel();
        agent
            .send(Box::new(move || tell.send(()).expect("somebody waits")))
            .expect("agents do not end");
        told.recv().expect("it answers");
    }
}

/// Uses wakers of the bag, as threads that keep wakers do.
pub(crate) fn stir(seed: u64, times: u8) {
    let mut rng = Rng::new(seed);
    for _ in 0..times {
        let take = rng.percent(50);
        let Some(waker) = WORLD.pick(&mut rng, take) else {
            return;
        };
        quietly(|| match rng.below(6) {
            0 => waker.wake(),
            1 => waker.wake_by_ref(),
            2 => {
                // The last reference may go under a lock that its destructor takes.
                let guard = lock(&WORLD.nasty);
                drop(waker);
                drop(guard);
            }
            3 => {
                let clones: [Waker; 3] = std::array::from_fn(|_| waker.clone());
                clones.into_iter().for_each(Waker::wake);
            }
            4 => {
                WORLD.keep(waker.clone());
            }
            _ => drop(waker),
        });
    }
}
