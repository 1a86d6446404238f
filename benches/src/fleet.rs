//! The threads that contestants use: each has as many as the others, counting the one that asks.

use std::sync::Arc;

use selvedge::Pool;

/// Pools of equal size, started and warm.
#[derive(Debug)]
pub struct Fleet {
    /// Threads that work at once.
    pub threads: usize,
    /// Ours: the thread that polls the scope is one of them, so the pool has one less to offer.
    pub ours: Pool,
    /// rayon's.
    pub rayon: Arc<rayon::ThreadPool>,
    /// tokio with as many workers; the thread that blocks on it does no work.
    pub tokio: tokio::runtime::Runtime,
}

impl Fleet {
    /// # Panics
    /// If threads cannot be started.
    #[must_use]
    pub fn new(threads: Option<usize>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let ours = match threads {
            None => Pool::global(),
            Some(threads) => Pool::builder().threads(threads - 1).build(),
        };
        let threads = threads.unwrap_or(cores);
        let rayon = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("rayon starts");
        let tokio = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .build()
            .expect("tokio starts");
        let fleet = Self {
            threads,
            ours,
            rayon: Arc::new(rayon),
            tokio,
        };
        fleet.warm();
        fleet
    }

    fn warm(&self) {
        let work = crate::work::Work::micros(20.0);
        for _ in 0..20 {
            let _ = crate::load::ours(&self.ours, 200, false, |i| async move { work.done(i) });
            let _ = crate::load::rayon_scope(&self.rayon, 200, |i| work.done(i));
        }
    }
}
