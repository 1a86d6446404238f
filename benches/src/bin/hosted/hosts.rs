//! Where a load runs, and what takes its children.

use std::future::Future;
use std::pin::Pin;

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use selvedge::{JoinHandle, Scope, scope};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use crate::loads::{Load, Nest};

/// What takes the children.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    Scope,
    JoinSet,
    Unordered,
    JoinAll,
}

impl Way {
    pub(crate) const ALL: [Self; 4] = [Self::Scope, Self::JoinSet, Self::Unordered, Self::JoinAll];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Scope => "scope",
            Self::JoinSet => "JoinSet",
            Self::Unordered => "FuturesUnordered",
            Self::JoinAll => "join_all",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Host {
    /// In `block_on` of tokio's multi-thread runtime, which is where `#[tokio::main]` is.
    Main,
    /// In a task of that runtime.
    Task,
    /// In `block_on` of tokio's current-thread runtime.
    Current,
    Smol,
    Embedded,
}

pub(crate) const HOSTS: [Host; 5] = [
    Host::Main,
    Host::Task,
    Host::Current,
    Host::Smol,
    Host::Embedded,
];

impl Host {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "tokio main",
            Self::Task => "tokio task",
            Self::Current => "tokio current-thread",
            Self::Smol => "smol",
            Self::Embedded => "embedded",
        }
    }

    pub(crate) fn is_tokio(self) -> bool {
        !matches!(self, Self::Smol | Self::Embedded)
    }

    pub(crate) fn takes(self, way: Way) -> bool {
        self.is_tokio() || way != Way::JoinSet
    }

    pub(crate) fn seat(self) -> Seat {
        let runtime = match self {
            Self::Main | Self::Task => Some(Builder::new_multi_thread().enable_all().build()),
            Self::Current => Some(Builder::new_current_thread().enable_all().build()),
            Self::Smol | Self::Embedded => None,
        };
        Seat {
            host: self,
            runtime: runtime.map(|runtime| runtime.expect("threads can be started")),
        }
    }
}

/// A host that is up.
#[derive(Debug)]
pub(crate) struct Seat {
    host: Host,
    runtime: Option<Runtime>,
}

impl Seat {
    /// Runs the load once, and says what its children returned.
    pub(crate) fn run(&self, way: Way, load: Load) -> u64 {
        let sum = match (self.host, &self.runtime) {
            (Host::Task, Some(runtime)) => {
                let task = runtime.spawn(by(way, load));
                runtime.block_on(task).expect("it ends")
            }
            (_, Some(runtime)) => runtime.block_on(by(way, load)),
            (Host::Smol, _) => smol::block_on(by(way, load)),
            (_, None) => selvedge::block_on(by(way, load)),
        };
        assert_eq!(sum, load.sum());
        sum
    }
}

struct Ours<'env> {
    scope: Scope<'env>,
    handles: Vec<JoinHandle<'env, u64>>,
}

impl Nest for Ours<'_> {
    fn spawn(&mut self, child: impl Future<Output = u64> + Send + 'static) {
        self.handles.push(self.scope.spawn(child));
    }
}

impl Nest for JoinSet<u64> {
    fn spawn(&mut self, child: impl Future<Output = u64> + Send + 'static) {
        self.spawn(child);
    }
}

/// Children of several types, for those who take one.
type Boxed = Pin<Box<dyn Future<Output = u64> + Send>>;

impl Nest for FuturesUnordered<Boxed> {
    fn spawn(&mut self, child: impl Future<Output = u64> + Send + 'static) {
        self.push(Box::pin(child));
    }
}

impl Nest for Vec<Boxed> {
    fn spawn(&mut self, child: impl Future<Output = u64> + Send + 'static) {
        self.push(Box::pin(child));
    }
}

/// Runs the load one way.
async fn by(way: Way, load: Load) -> u64 {
    match way {
        Way::Scope => {
            scope(async |scope| {
                let handles = Vec::new();
                let mut ours = Ours { scope, handles };
                load.fill(&mut ours);
                let mut sum = 0;
                for child in ours.handles {
                    sum += child.await;
                }
                sum
            })
            .await
        }
        Way::JoinSet => {
            let mut set = JoinSet::new();
            load.fill(&mut set);
            let mut sum = 0;
            while let Some(child) = set.join_next().await {
                sum += child.expect("it ends");
            }
            sum
        }
        Way::Unordered => {
            let mut all = FuturesUnordered::new();
            load.fill(&mut all);
            let mut sum = 0;
            while let Some(child) = all.next().await {
                sum += child;
            }
            sum
        }
        Way::JoinAll => {
            let mut all = Vec::new();
            load.fill(&mut all);
            join_all(all).await.into_iter().sum()
        }
    }
}
